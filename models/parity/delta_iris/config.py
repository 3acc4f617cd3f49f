"""What a golden file of Delta-IRIS states in `meta/config`, as configurations of ours: tables of names, no guesses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.delta_iris.config import (
    AS_THE_ORIGINAL,
    DeltaActorConfig,
    DeltaIrisConfig,
    DeltaTokenizerConfig,
    EncoderConfig,
    StackConfig,
    WorldModelConfig,
)
from models.parity.golden_file import renamed

STACK_NAMES = {
    "latent_dim": "latent",
    "num_channels": "channels",
    "mult": "mult",
    "down": "down",
    "image_channels": "seen",
}
TOKENIZER_NAMES = {
    "image_channels": "frame_channels",
    "image_size": "resolution",
    "num_tokens": "tokens_per_frame",
    "decoder_act_channels": "action_channels",
    "codebook_size": "vocab_size",
    "codebook_dim": "code_dim",
    "max_codebook_updates_with_revival": "revive_updates",
}
WORLD_NAMES = {
    "latent_vocab_size": "vocab_size",
    "image_channels": "frame_channels",
    "image_size": "resolution",
    "latents_weight": "latents_weight",
    "rewards_weight": "rewards_weight",
    "ends_weight": "ends_weight",
    "two_hot_rews": "two_hot",
    "transformer_config.tokens_per_block": "tokens_per_block",
    "transformer_config.max_blocks": "max_steps",
    "transformer_config.num_layers": "layers",
    "transformer_config.num_heads": "heads",
    "transformer_config.embed_dim": "width",
}
PDROPS = ("embed_pdrop", "resid_pdrop", "attn_pdrop")
WORLD_FIXED = {"transformer_config.attention": "causal"} | {f"transformer_config.{name}": 0.0 for name in PDROPS}
ACTOR_NAMES = {
    "burn_in_length": "burn_in",
    "imagination_horizon": "horizon",
    "gamma": "gamma",
    "lambda_": "lambda_",
    "entropy_weight": "entropy",
    "two_hot_rets": "two_hot",
}
TRAINING_NAMES = {
    "learning_rate": "lr",
    "max_grad_norm": "clip",
    "tokenizer_weight_decay": "tokenizer",
    "world_model_weight_decay": "world_model",
}
STACKS = ("encoder_config", "decoder_config", "frame_cnn_config", "frame_encoder_config")
ALWAYS = -1  # of `revive_updates`, where the original has None


@dataclass(frozen=True)
class Training:
    """Numbers of the optimisers; decay by network, 0 where none is stated."""

    lr: float
    clip: float
    weight_decay: Mapping[str, float]


def delta_iris_config(config: Mapping[str, Any]) -> tuple[DeltaIrisConfig, Training]:
    """All of ours that the file states, with what the original does wrong.

    Raises ValueError for an entry that is missing or not known, and where sizes do not follow one another.
    """
    actions = config["num_actions"]
    tokenizer = _tokenizer(config["tokenizer"], actions)
    size = (tokenizer.resolution, tokenizer.resolution, tokenizer.frame_channels)
    found = DeltaIrisConfig(
        frame=size,
        tokenizer=tokenizer,
        world_model=_world_model(config["world_model"], tokenizer, actions),
        actor_critic=_actor(config["actor_critic"], tokenizer, actions),
        faults=AS_THE_ORIGINAL,
    )
    found.require_fit(found.world_model.max_steps)
    training = renamed(config["training"], TRAINING_NAMES, {})
    decays = {name: training.pop(name) for name in ("tokenizer", "world_model")}
    return found, Training(**training, weight_decay={**decays, "actor_critic": 0.0})


def _tokenizer(stated: Mapping[str, Any], actions: int) -> DeltaTokenizerConfig:
    fields = renamed(_without_stacks(stated), TOKENIZER_NAMES, {})
    channels, updates = fields["frame_channels"], fields.pop("revive_updates")
    encoder = _encoder(stated["encoder_config"], 2 * channels + 1)
    frame_cnn = _encoder(stated["frame_cnn_config"], channels)
    decoder = _stack(stated["decoder_config"], channels)
    _require_equal(
        "decoder_config.latent_dim",
        decoder.pop("latent"),
        encoder.latent + frame_cnn.latent + fields["action_channels"],
    )
    return DeltaTokenizerConfig(
        **fields,
        encoder=encoder,
        decoder=StackConfig(**decoder),
        frame_cnn=frame_cnn,
        num_actions=actions,
        revive_updates=ALWAYS if updates is None else updates,
    )


def _world_model(stated: Mapping[str, Any], tokenizer: DeltaTokenizerConfig, actions: int) -> WorldModelConfig:
    fields = renamed(_without_stacks(stated), WORLD_NAMES, WORLD_FIXED)
    for name in ("vocab_size", "frame_channels", "resolution"):
        _require_equal(f"world_model's {name}", fields.pop(name), getattr(tokenizer, name))
    _require_equal("tokens_per_block", fields.pop("tokens_per_block"), tokenizer.tokens_per_frame + 2)
    rewards: Any = "two_hot" if fields.pop("two_hot") else "sign"
    frame_cnn = _encoder(stated["frame_cnn_config"], tokenizer.frame_channels)
    return WorldModelConfig(**fields, rewards=rewards, frame_cnn=frame_cnn, num_actions=actions)


def _actor(stated: Mapping[str, Any], tokenizer: DeltaTokenizerConfig, actions: int) -> DeltaActorConfig:
    fields = renamed(_without_stacks(stated), ACTOR_NAMES, {})
    values: Any = "two_hot" if fields.pop("two_hot") else "mean"
    return DeltaActorConfig(
        **fields,
        values=values,
        frame_cnn=_encoder(stated["frame_encoder_config"], tokenizer.frame_channels),
        num_actions=actions,
        resolution=tokenizer.resolution,
        frame_channels=tokenizer.frame_channels,
    )


def _without_stacks(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stated.items() if name not in STACKS}


def _stack(stated: Mapping[str, Any], seen: int) -> dict[str, Any]:
    fields = renamed(stated, STACK_NAMES, {})
    _require_equal("image_channels", fields.pop("seen"), seen)
    return fields


def _encoder(stated: Mapping[str, Any], seen: int) -> EncoderConfig:
    return EncoderConfig(**_stack(stated, seen))


def _require_equal(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"meta/config states {name} = {found}, where the other sizes make it {wanted}")
