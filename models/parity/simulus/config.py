"""What a golden file of Simulus states in `meta/config`, as configurations of ours: tables of names, no guesses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.parity.blocks import LEARNING_NAMES, learning_fields, recording_fields, tokenizer_fields, training_of
from models.parity.golden_file import renamed
from models.parity.learning import Training
from models.simulus.config import SimulusActorConfig, SimulusConfig, WorldModelConfig
from models.tokenizers.config import TokenizerConfig, TokenizerWeights

TOKENIZER_NAMES = {"commitment_beta": "commitment", "ema_decay": "ema_decay", "fsq_levels": "fsq_levels"}
WORLD_NAMES = {
    "context_length": "context",
    "curiosity_ensemble_size": "ensemble",
    "enable_curiosity": "curious",
    "obs_emb_dim": "codes",
}
WORLD_FIXED = {"compute_states_parallel": True, "shared_embeddings": True, "shared_prediction_token": False}
SIZES = {"embed_dim": "width", "max_blocks": "max_steps", "num_heads": "heads", "num_layers": "layers"}
BACKBONES: Mapping[str, tuple[Mapping[str, str], Mapping[str, Any]]] = {  # names and fixed values, by their section
    "transformer": (
        SIZES | {"blocks_per_chunk": "blocks_per_chunk"},
        {"dropout": 0.0, "pos_enc": "rotary", "pred_pass_mode": "batched", "pred_self_mask": "causal"},
    ),
    "retnet": (
        SIZES
        | {
            "blocks_per_chunk": "blocks_per_chunk",
            "decay_scale_max_num_blocks": "slowest",
            "decay_scale_min_num_blocks": "fastest",
        },
        {"dropout": 0.0, "mask_type": "autoregressive"},
    ),
}
ACTOR_NAMES = {
    "include_action_inputs": "action_inputs",
    "intrinsic_reward_weight": "curiosity",
    "num_layers": "layers",
    "num_value_bins": "bins_less_one",
    "obs_mlp_layer_sizes": "mlp",
    "real_reward_weight": "real_reward",
    "separate_networks": "separate",
}
ACTOR_FIXED = {"name": "actor_critic", "rnn_type": "lstm"}
RECORDING_NAMES = {"act_burn_in": "act_burn_in", "batch_tokenizer": "rows", "replay_uniform": "uniform"}
IGNORED = ("act_temperature", "seed")  # of no influence
ROLLOUTS = 500  # whose returns the original remembers
SMOOTHING = 1e-5  # of its EMA's counts


@dataclass(frozen=True)
class Recording:
    """How the file was made: frames before the actor acts, rows of its batches, the share that is drawn uniformly."""

    act_burn_in: int
    rows: int
    uniform: float


def simulus_config(config: Mapping[str, Any]) -> tuple[SimulusConfig, dict[str, Training], Recording]:
    """All of ours that the file states, optimisers by network. LPIPS is left out of its losses.

    Raises ValueError or KeyError where it states what is not known here, or too little.
    """
    recording = Recording(**recording_fields(config, RECORDING_NAMES, IGNORED))
    tokenizer, weights = _tokenizer_config(config["tokenizer"])
    world = _world_config(config["world_model"], tokenizer, config["num_actions"])
    actor = renamed(config["actor_critic"], ACTOR_NAMES, ACTOR_FIXED)
    actor |= learning_fields(config, LEARNING_NAMES | {"burn_in": "burn_in"})
    steps = actor["horizon"] - world.context
    found = SimulusConfig(
        frame=(tokenizer.resolution, tokenizer.resolution, tokenizer.frame_channels),
        tokenizer=tokenizer,
        world_model=world,
        actor_critic=SimulusActorConfig(
            **{name: value for name, value in actor.items() if name != "bins_less_one"},
            value_bins=actor["bins_less_one"] + 1,
            num_actions=config["num_actions"],
            resolution=tokenizer.resolution,
            frame_channels=tokenizer.frame_channels,
            burn_in_actions=not actor["action_inputs"],  # it forgets them where it is told of any
            aligned=False,
            return_buffer=ROLLOUTS * recording.rows * steps,
        ),
        weights=weights,
    )
    found.require_fit(found.world_model.max_steps)
    return found, training_of(config), recording


def _tokenizer_config(stated: Mapping[str, Any]) -> tuple[TokenizerConfig, TokenizerWeights]:
    fields = tokenizer_fields(stated, TOKENIZER_NAMES)
    beta, fsq, decay = (fields.pop(name) for name in ("commitment", "fsq_levels", "ema_decay"))
    if fsq:
        kind: dict[str, Any] = {"quantizer": "fsq", "fsq_levels": fsq}
    else:
        kind = {"quantizer": "ema", "ema_decay": decay, "ema_smoothing": SMOOTHING, "quant_convs": False}
        kind |= {"revive": "anywhere", "revive_below": 1.0}
    tokenizer = TokenizerConfig(**fields, **kind, embed_dim=fields["z_channels"], stack="strided")
    commitment = {"commitment": 0.0} if fsq or not beta else {"commitment": beta, "codes": 0.0}
    return tokenizer, TokenizerWeights(l1=0.0, mse=1.0, **commitment)


def _world_config(stated: Mapping[str, Any], tokenizer: TokenizerConfig, num_actions: int) -> WorldModelConfig:
    kinds = [kind for kind in BACKBONES if kind in stated]
    if len(kinds) != 1:
        raise ValueError(f"meta/config states {' and '.join(kinds) or 'no'} backbone: one of {', '.join(BACKBONES)}")
    names, fixed = BACKBONES[kinds[0]]
    sizes = renamed(stated[kinds[0]], names, fixed)
    if kinds[0] == "transformer":
        del sizes["blocks_per_chunk"]  # which attention does not ask for
    fields = renamed({name: value for name, value in stated.items() if name not in BACKBONES}, WORLD_NAMES, WORLD_FIXED)
    if (codes := fields.pop("codes")) != tokenizer.embed_dim:
        raise ValueError(f"meta/config states codes of {codes} numbers, where the tokenizer has {tokenizer.embed_dim}")
    if not fields.pop("curious"):
        fields["ensemble"] = 0
    return WorldModelConfig(
        **fields,
        **sizes,
        backbone="attention" if kinds[0] == "transformer" else "retnet",
        dropout=0.0,
        clip_rewards=False,
        last_rewards=False,
        num_actions=num_actions,
    )
