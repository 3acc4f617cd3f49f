"""What a golden file of JOWA states in `meta/config`, as configurations of ours: tables of names, no guesses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.jowa.config import JowaConfig
from models.parity.golden_file import renamed
from models.planning.beam import Beam, Greedy
from models.tokenizers.config import TokenizerConfig

TOKENIZER_NAMES = {
    "vocab_size": "vocab_size",
    "embed_dim": "embed_dim",
    "norm_groups": "norm_groups",
    "downsample": "downsample",
    "commitment_beta": "commitment_beta",
    "encoder_decoder.resolution": "resolution",
    "encoder_decoder.z_channels": "z_channels",
    "encoder_decoder.ch": "channels",
    "encoder_decoder.ch_mult": "channel_mult",
    "encoder_decoder.num_res_blocks": "res_blocks",
}
TOKENIZER_FIXED = {
    "norm_eps": 1e-6,
    "reconstruction_scale": "[-1, 1]",
    "lpips": "left out",
    "encoder_decoder.in_channels": 1,
    "encoder_decoder.out_ch": 1,
    "encoder_decoder.dropout": 0.0,
    "encoder_decoder.attn_resolutions": (6, 12),  # every level of 84 pixels after the first: `attention`
}
MODEL_NAMES = {
    "transformer.tokens_per_block": "tokens_per_step",
    "transformer.max_blocks": "max_steps",
    "transformer.max_tasks": "num_games",
    "transformer.num_layers": "layers",
    "transformer.num_heads": "heads",
    "transformer.embed_dim": "width",
    "critic_head.num_q": "num_q",
    "critic_head.mlp_dim": "q_hidden",
    "action.gamma": "gamma",
    "action.vmin": "value_min",
    "action.vmax": "value_max",
    "action.num_atoms": "atoms",
    "action.td_loss": "critic",
    "action.q_penalty": "penalty",
    "action.cql_weight": "cql_weight",
    "action.supervised_weight": "world_weight",
    "action.use_rem": "random_mixture",
    "action.use_task_embed": "task_embedding",
    "action.q_loss_backwards_wm": "q_trains_trunk",
    "action.target_update_frequency": "target_every",
}
MODEL_FIXED = {
    "transformer.attention": "causal",
    "transformer.embed_pdrop": 0.0,
    "transformer.resid_pdrop": 0.0,
    "transformer.attn_pdrop": 0.0,
    "critic_head.dropout": 0.0,
    "action.policy_in_imagination": "planning",
    "constants.layer_norm_eps": 1e-5,
    "constants.gelu": "exact (erf)",
    "constants.q_head_activation": "Mish",
    "constants.td_log_eps": 1e-8,
    "constants.reward_classes": (-1, 0, 1),
}
STAGE_NAMES = {name: name for name in ("objective", "optimiser", "steps", "lr", "weight_decay", "betas", "eps", "clip")}
OBJECTIVES = ("tokenizer", "world", "world_action")


@dataclass(frozen=True)
class Stage:
    """One objective that was recorded, and its optimiser."""

    name: str
    objective: str  # of OBJECTIVES
    model: JowaConfig  # with the options of this stage
    target_every: int  # optimiser steps between two copies of the Q head into the target head
    imagined: bool  # whether imagined segments follow the real ones in the batch
    optimiser: str  # Adam or AdamW
    steps: int  # optimiser steps that were recorded
    lr: float
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    clip: float


def tokenizer_config(config: Mapping[str, Any]) -> tuple[TokenizerConfig, float]:
    """The tokenizer's configuration, and the weight of the commitment loss's second term."""
    fields = renamed(config["tokenizer"], TOKENIZER_NAMES, TOKENIZER_FIXED)
    beta = fields.pop("commitment_beta")
    return TokenizerConfig(**fields), beta


def model_config(config: Mapping[str, Any], action: Mapping[str, Any]) -> tuple[JowaConfig, int]:
    """JOWA's configuration under the options `action`, and the steps between two updates of the target head."""
    sections = {name: config[name] for name in ("transformer", "critic_head", "constants")}
    fields = renamed({**sections, "action": action}, MODEL_NAMES, MODEL_FIXED)
    target_every = fields.pop("target_every")
    fields["tokens_per_frame"] = fields.pop("tokens_per_step") - 1
    fields["penalty"] = fields["penalty"] or "none"
    sizes = {"vocab_size": config["tokenizer"]["vocab_size"], "num_actions": config["act_vocab_size"]}
    return JowaConfig(**fields, **sizes, dropout=0.0, q_dropout=0.0), target_every


def stages(config: Mapping[str, Any]) -> list[Stage]:
    """The recorded stages. Raises ValueError for an objective that is not one of OBJECTIVES."""
    found = []
    for name, stated in config["stages"].items():
        if stated["objective"] not in OBJECTIVES:
            raise ValueError(f"stage {name} has objective '{stated['objective']}', known are: {', '.join(OBJECTIVES)}")
        # Frames or tokens, losses start from the recorded tokens: the original encodes frames to these.
        known = {"imagined": "imagined", "observations": "observations", "train_critic": "train_critic"}
        of_model = {} if stated["objective"] == "tokenizer" else known
        options = {key: value for key, value in stated.items() if key != "action"}
        fields = renamed(options, STAGE_NAMES | of_model, {})
        model, target_every = model_config(config, config["action"] | stated.get("action", {}))
        if fields.pop("train_critic", False) != (stated["objective"] == "world_action"):
            raise ValueError(f"stage {name} trains the critic if, and only if, its objective is world_action")
        fields.pop("observations", None)
        found.append(Stage(**({"imagined": False} | fields), name=name, model=model, target_every=target_every))
    return found


def planner(config: Mapping[str, Any], name: str) -> Greedy | Beam:
    """The planner that a file calls so. Raises ValueError for a kind that is not known."""
    stated = dict(config["planners"][name])
    kind = stated.pop("kind")
    if kind == "greedy":
        return Greedy(**stated)
    if kind == "beam":
        return Beam(**stated)
    raise ValueError(f"planner {name} is of kind '{kind}', known are: greedy, beam")
