"""Simulus's sizes, read off a checkpoint: what a flat state_dict's names and shapes say of the three networks.

Not every number leaves a trace in shapes: norm groups, FSQ's levels (their number and product do; `fsq_levels` reads
them), blocks and context, where bins end, whether the actor is told of actions, and all that belongs to learning are
those of the config that is given. Imports no torch. Run: `worldline import simulus --file last.pt --game Pong`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.practice.config import NETWORKS
from models.practice.shapes import Shape, Shapes, require_networks, with_networks
from models.simulus.config import SimulusActorConfig, SimulusConfig, WorldModelConfig
from models.tokenizers.config import TokenizerConfig

IMAGE = "tokenizer.tokenizers.image."
MODEL = "world_model._model."
MOST_LEVELS = 16  # numbers of a code that levels are read of
OF_ATTENTION = {"fastest", "slowest", "blocks_per_chunk"}  # of a RetNet alone


def sized(config: SimulusConfig, shapes: Mapping[str, Shape]) -> SimulusConfig:
    """`config` with the sizes of the checkpoint whose tensors have these names and shapes, which knows all its actions.

    Raises ValueError, in one line, for the first name that is missing or belongs to no network, for a tensor whose
    shape is of another kind, and where shapes do not fit each other.
    """
    require_networks(shapes, NETWORKS, "Simulus")
    found = Shapes(shapes, "Simulus")
    tokenizer = _tokenizer(found, config.tokenizer)
    commits = {} if tokenizer.quantizer != "fsq" else {"weights": replace(config.weights, commitment=0.0)}
    world_model, actor = _world_model(found, config.world_model), _actor(found, config.actor_critic, tokenizer)
    return with_networks(config, tokenizer, world_model, actor, **commits)


def fsq_levels(weights: Mapping[str, Any]) -> tuple[int, ...]:
    """The levels of a whole checkpoint's FSQ, which it keeps as numbers; none where it has no FSQ, or odd ones."""
    kept = weights.get(f"{IMAGE}fsq._levels")
    if kept is None or kept.ndim != 1 or not 1 <= len(kept) <= MOST_LEVELS or kept.is_floating_point():
        return ()
    return tuple(kept.tolist())


def _tokenizer(found: Shapes, given: TokenizerConfig) -> TokenizerConfig:
    channels, frame_channels = found.of(f"{IMAGE}encoder.cnn.0.weight", 4)[:2]
    halvings = found.count(r"tokenizer\.tokenizers\.image\.encoder\.cnn\.1\.(\d{1,2})\.")
    vocab_size = found.of("world_model.head_observations.image.3.weight", 2)[0]
    z_channels, tokens = found.of(f"{IMAGE}encoder.cnn.2.2.weight", 4)[0], _tokens(found)
    maps = bool(found.first(r"tokenizer\.tokenizers\.image\.pre_quant_conv\."))
    numbers = found.of(f"{IMAGE}pre_quant_conv.weight", 4)[0] if maps else z_channels
    grid = math.isqrt(max(tokens, 0))
    if grid**2 != tokens or not grid or not halvings:
        raise ValueError(f"it predicts {tokens} tokens a frame behind {halvings} halvings, which makes no square grid")
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "z_channels": z_channels,
        "channels": channels,
        "downsample": (2,) * halvings,
        "resolution": grid << halvings,
        "frame_channels": frame_channels,
        "quant_convs": maps,
    }
    if found.first(r"tokenizer\.tokenizers\.image\.embedding\.weight"):
        ema = found.first(r"tokenizer\.tokenizers\.image\._ema_cluster_size")
        kind = given.quantizer if given.quantizer != "fsq" else "straight_through"
        return replace(given, quantizer="ema" if ema else kind, fsq_levels=(), embed_dim=numbers, **sizes)
    if len(given.fsq_levels) != numbers or math.prod(given.fsq_levels) != vocab_size:
        raise ValueError(
            f"its FSQ has {numbers} levels that make {vocab_size} tokens, and fsq_levels {given.fsq_levels} do not: "
            f"say which, such as --set tokenizer.fsq_levels=8,8,8, and --set tokenizer.vocab_size={vocab_size}"
        )
    return replace(given, embed_dim=z_channels, **sizes)


def _tokens(found: Shapes) -> int:
    """Tokens of a frame: an attention's prediction tokens, or a RetNet's, which have one more."""
    if found.first(r"world_model\._model\.pred_tokens$"):
        return found.of(f"{MODEL}pred_tokens", 2)[0]
    return found.of("world_model.placeholder_embeddings.weight", 2)[0] - 1


def _world_model(found: Shapes, given: WorldModelConfig) -> WorldModelConfig:
    num_actions, width = found.of("world_model.action_encoder.embedding.weight", 2)
    attends = bool(found.first(r"world_model\._model\.pred_tokens$"))
    angles = f"{MODEL}rotary_emb.inv_freq" if attends else f"{MODEL}layers.0.retention.thetas"
    per_head = found.of(angles, 1)[0] * (1 + attends)
    if width % per_head:
        raise ValueError(f"it turns {per_head} numbers a head of {width}, which do not divide it: give another file")
    usual = WorldModelConfig()
    backbone: dict[str, Any] = {"backbone": "attention" if attends else "retnet"}
    if attends:
        backbone |= {name: getattr(usual, name) for name in OF_ATTENTION}
    return replace(
        given,
        layers=found.count(r"world_model\._model\.layers\.(\d{1,2})\."),
        heads=width // per_head,
        width=width,
        ensemble=found.count(r"world_model\.curiosity_head\.image\.ensemble\.(\d{1,2})\."),
        reward_bins=found.of("world_model.head_rewards.head.linear.weight", 2)[0],
        num_actions=num_actions,
        **backbone,
    )


def _actor(found: Shapes, given: SimulusActorConfig, tokenizer: TokenizerConfig) -> SimulusActorConfig:
    num_actions = found.of("actor_critic.actor_linear.weight", 2)[0]
    places = range(0, found.count(r"actor_critic\.obs_latent_fuser\.(\d{1,2})\."), 3)  # linear, norm, SiLU
    bins = found.of("actor_critic.critic_v_head.linear.weight", 2)[0]
    return replace(
        given,
        layers=found.count(r"actor_critic\.obs_encoders\.image\.model\.(\d{1,2})\."),
        mlp=tuple(found.of(f"actor_critic.obs_latent_fuser.{place}.weight", 2)[0] for place in places),
        separate=bool(found.first(r"actor_critic\.critic\.lstm\.")),
        value_bins=0 if bins == 1 else bins,
        num_actions=num_actions,
        resolution=tokenizer.resolution,
        frame_channels=tokenizer.frame_channels,
    )
