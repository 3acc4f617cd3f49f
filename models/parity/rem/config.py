"""What a golden file of REM states in `meta/config`, as configurations of ours: tables of names, no guesses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.parity.blocks import LEARNING_NAMES, learning_fields, recording_fields, tokenizer_fields, training_of
from models.parity.golden_file import renamed
from models.parity.learning import Training
from models.rem.config import RemActorConfig, RemConfig, WorldModelConfig
from models.tokenizers.config import TokenizerConfig

WORLD_NAMES = {
    "context_length": "context",
    "shared_embeddings": "shared_embeddings",
    "shared_prediction_token": "shared_prediction_token",
    "retnet.blocks_per_chunk": "blocks_per_chunk",
    "retnet.embed_dim": "width",
    "retnet.max_blocks": "max_steps",
    "retnet.num_heads": "heads",
    "retnet.num_layers": "layers",
    "retnet.tokens_per_block": "tokens_per_block",
}
WORLD_FIXED = {"retnet.dropout": 0.0}
ACTOR_NAMES = {"lstm_latent_dim": "hidden"}
ACTOR_FIXED = {"use_original_obs": False}  # what True would show to an actor on codes is stated nowhere
LATENT_NAMES = {"include_action_inputs": "action_inputs", "n_layers": "layers", "rnn_type": "rnn"}
KINDS = {"LSAC": "codes", "AC": "pixels"}  # ours by the file's name of the actor-critic
RECORDING_NAMES = {
    "ac_frames": "frames",
    "act_burn_in": "act_burn_in",
    "retention_block": "retention_block",
    "retention_split": "retention_split",
    "retention_start": "retention_start",
    "retnet_blocks": "retnet_blocks",
    "retnet_chunks": "retnet_chunks",
}
IGNORED = ("act_temperature", "batch_tokenizer", "retention_len", "seed")  # seen in shapes, or of no influence


@dataclass(frozen=True)
class Recording:
    """How the file was made: frames of the actor's segments, where sequences were cut and begun."""

    frames: int
    act_burn_in: int
    retention_block: int
    retention_split: int
    retention_start: int
    retnet_blocks: int
    retnet_chunks: tuple[int, ...]


def rem_config(config: Mapping[str, Any]) -> tuple[RemConfig, dict[str, Training], Recording]:
    """All of ours that the file states, optimisers by network. LPIPS is left out of its losses.

    Raises ValueError or KeyError where it states what is not known here, or too little.
    """
    recording = Recording(**recording_fields(config, RECORDING_NAMES, IGNORED))
    fields = tokenizer_fields(config["tokenizer"], {"embed_dim": "embed_dim"})
    tokenizer, training = TokenizerConfig(**fields, stack="plain"), training_of(config)
    actor = _actor_fields(config["actor_critic"]) | learning_fields(config, LEARNING_NAMES)
    side, count = tokenizer.resolution, config["num_actions"]
    found = RemConfig(
        frame=(side, side, tokenizer.frame_channels),
        tokenizer=tokenizer,
        world_model=_world_config(config["world_model"], tokenizer, count),
        actor_critic=RemActorConfig(
            **actor,
            num_actions=count,
            resolution=side,
            frame_channels=tokenizer.frame_channels,
            burn_in=recording.frames - 1,
            burn_in_actions=not actor["action_inputs"],  # it forgets them where it is told of any
        ),
    )
    found.require_fit(found.world_model.max_steps)
    return found, training, recording


def _world_config(stated: Mapping[str, Any], tokenizer: TokenizerConfig, num_actions: int) -> WorldModelConfig:
    fields = renamed(stated, WORLD_NAMES, WORLD_FIXED)
    if (tokens := fields.pop("tokens_per_block") - 1) != tokenizer.tokens_per_frame:
        raise ValueError(
            f"meta/config states blocks of {tokens} tokens and an action, where a frame has "
            f"{tokenizer.tokens_per_frame} tokens"
        )
    return WorldModelConfig(**fields, dropout=0.0, num_actions=num_actions)


def _actor_fields(stated: Mapping[str, Any]) -> dict[str, Any]:
    name, rest = stated["name"], {key: value for key, value in stated.items() if key != "name"}
    if name not in KINDS:
        raise ValueError(f"meta/config states an actor-critic '{name}', which is not known here")
    if KINDS[name] == "codes":
        return renamed(rest, ACTOR_NAMES | LATENT_NAMES, ACTOR_FIXED)
    return renamed(rest, ACTOR_NAMES, ACTOR_FIXED) | {"kind": "pixels", "action_inputs": False}
