"""What a golden file of IRIS states in `meta/config`, as configurations of ours: tables of names, no guesses."""

from collections.abc import Mapping
from typing import Any

from models.iris.config import ActorCriticConfig, IrisConfig, WorldModelConfig
from models.parity.golden_file import renamed
from models.parity.learning import Training
from models.tokenizers.config import TokenizerConfig, TokenizerWeights

TOKENIZER_NAMES = {
    "vocab_size": "vocab_size",
    "embed_dim": "embed_dim",
    "encoder.resolution": "resolution",
    "encoder.in_channels": "frame_channels",
    "encoder.z_channels": "z_channels",
    "encoder.ch": "channels",
    "encoder.ch_mult": "channel_mult",
    "encoder.num_res_blocks": "res_blocks",
    "encoder.attn_resolutions": "attention_at",
    "encoder.out_ch": "out_channels",
}
TOKENIZER_FIXED = {"encoder.dropout": 0.0}
NORM_GROUPS = 32  # in all of the original's code
WORLD_NAMES = {
    "tokens_per_block": "tokens_per_step",
    "max_blocks": "max_steps",
    "num_layers": "layers",
    "num_heads": "heads",
    "embed_dim": "width",
}
WORLD_FIXED = {"attention": "causal", "embed_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
TRAINING_NAMES = {
    "learning_rate": "lr",
    "max_grad_norm": "clip",
    "weight_decay": "weight_decay",
    "gamma": "gamma",
    "lambda_": "lambda_",
    "entropy_weight": "entropy",
    "imagine_horizon": "horizon",
    "burn_in": "burn_in",
}
ACTOR = ("gamma", "lambda_", "entropy", "horizon", "burn_in")


def tokenizer_config(stated: Mapping[str, Any]) -> TokenizerConfig:
    """The tokenizer's. Raises ValueError where frames go in and come out with different channels."""
    fields = renamed(stated, TOKENIZER_NAMES, TOKENIZER_FIXED)
    if (out := fields.pop("out_channels")) != fields["frame_channels"]:
        raise ValueError(f"meta/config states {fields['frame_channels']} channels in and {out} out: they must be equal")
    halvings = len(fields["channel_mult"]) - 1
    return TokenizerConfig(**fields, norm_groups=NORM_GROUPS, downsample=(2,) * halvings, initial="uniform")


def world_model_config(stated: Mapping[str, Any], tokenizer: TokenizerConfig, num_actions: int) -> WorldModelConfig:
    """The transformer's, with the sizes that other sections state."""
    fields = renamed(stated, WORLD_NAMES, WORLD_FIXED)
    fields["tokens_per_frame"] = fields.pop("tokens_per_step") - 1
    return WorldModelConfig(**fields, vocab_size=tokenizer.vocab_size, num_actions=num_actions, dropout=0.0)


def iris_config(config: Mapping[str, Any]) -> tuple[IrisConfig, Training]:
    """All of ours that the file states. LPIPS is left out of its losses."""
    tokenizer = tokenizer_config(config["tokenizer"])
    world = world_model_config(config["world_model"], tokenizer, config["num_actions"])
    return assembled(config["training"], tokenizer, world)


def assembled(
    stated: Mapping[str, Any], tokenizer: TokenizerConfig, world_model: WorldModelConfig
) -> tuple[IrisConfig, Training]:
    """The agent's of two networks and what the file states of training."""
    training = renamed(stated, TRAINING_NAMES, {})
    actor = {name: training.pop(name) for name in ACTOR}
    side = tokenizer.resolution
    actor |= {"resolution": side, "frame_channels": tokenizer.frame_channels}
    found = IrisConfig(
        frame=(side, side, tokenizer.frame_channels),
        tokenizer=tokenizer,
        world_model=world_model,
        actor_critic=ActorCriticConfig(**actor, num_actions=world_model.num_actions),
        weights=TokenizerWeights(lpips=0.0),
    )
    found.require_fit(world_model.max_steps)
    return found, Training(**training)
