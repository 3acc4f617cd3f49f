"""What a golden file of the thesis states in `meta/config`, as configurations of ours: tables of names, no guesses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.iris.config import IrisConfig, WorldModelConfig
from models.parity.golden_file import renamed
from models.parity.iris.config import assembled, world_model_config
from models.parity.iris.config import tokenizer_config as iris_tokenizer_config
from models.parity.learning import Training
from models.tokenizers.config import TokenizerConfig

CRITIC_NAMES = {"hidden_layer_size": "hidden", "num_hidden_layers": "layers", "input_size": "inputs"}
NCP_NAMES = {
    "tokens_per_block": "tokens_per_step",
    "max_blocks": "max_steps",
    "num_layers": "layers",
    "embed_dim": "width",
    "ncp_units": "units",
    "ncp_layer_norm": "layer_norm",
}
NCP_FIXED = {"embed_pdrop": 0.0, "blocks_pdrop": 0.0}
POSITIONS = {"pos_emb": "positions"}  # token by token only
HIDDEN = "hidden_layers_output_dim"  # frame by frame only: a whole step's numbers, which nothing else fits
NCP_KINDS = {"ncp_multi": "ncp_tokens", "ncp_single": "ncp_frames"}  # ours by the file's variant


def thesis_config(config: Mapping[str, Any]) -> tuple[IrisConfig, Training]:
    """All of ours that a file with a world model states. LPIPS is left out of its losses."""
    tokenizer, value_weight = tokenizer_config(config["tokenizer"])
    if value_weight:
        raise ValueError(
            f"meta/config states critic_loss_weight = {value_weight} beside a world model: 0 is known here"
        )
    world = _world_model_config(config["variant"], config["world_model"], tokenizer, config["num_actions"])
    return assembled(config["training"], replace(tokenizer, value_layers=()), world)


def tokenizer_config(stated: Mapping[str, Any]) -> tuple[TokenizerConfig, float]:
    """The tokenizer's with its critic, and what the critic's loss weighs."""
    critic = renamed(stated["critic"], CRITIC_NAMES, {})
    own = {name: each for name, each in stated.items() if name not in ("critic", "critic_loss_weight")}
    plain = iris_tokenizer_config(own)
    if critic["inputs"] != plain.embed_dim * plain.tokens_per_frame:
        numbers = f"{plain.embed_dim} x {plain.tokens_per_frame}"
        raise ValueError(f"meta/config states a critic of {critic['inputs']} inputs, where codes have {numbers}")
    return replace(plain, value_layers=(critic["hidden"],) * critic["layers"]), stated["critic_loss_weight"]


def _world_model_config(
    variant: str, stated: Mapping[str, Any], tokenizer: TokenizerConfig, num_actions: int
) -> WorldModelConfig:
    """The world model's, of the kind that the variant says."""
    if variant == "gpt2":
        return world_model_config(stated, tokenizer, num_actions)
    if variant not in NCP_KINDS:
        raise ValueError(f"meta/config states variant '{variant}', which is not known here")
    by_token = variant == "ncp_multi"
    fields = renamed(stated, NCP_NAMES | (POSITIONS if by_token else {HIDDEN: "hidden"}), NCP_FIXED)
    hidden = fields.pop("hidden", None)
    fields["tokens_per_frame"] = fields.pop("tokens_per_step") - 1
    fields |= {"vocab_size": tokenizer.vocab_size, "num_actions": num_actions, "kind": NCP_KINDS[variant]}
    found = WorldModelConfig(**fields, dropout=0.0)
    if hidden not in (None, found.hidden):
        raise ValueError(f"meta/config states {HIDDEN} = {hidden}, where a step has {found.hidden} numbers")
    return found
