"""Delta-IRIS's sizes, read off a checkpoint: what a flat state_dict's names and shapes say of the three networks.

Not every number leaves a trace in shapes: norm groups, heads, the codebook's decay and revival, and all that belongs to
learning are those of the config that is given. Imports no torch.
Run: `worldline import delta-iris --file last.pt --game Crafter`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from models.delta_iris.config import (
    POINTS,
    DeltaActorConfig,
    DeltaIrisConfig,
    DeltaTokenizerConfig,
    EncoderConfig,
    StackConfig,
    WorldModelConfig,
)
from models.delta_iris.family import NETWORKS
from models.practice.shapes import Shape, Shapes, require_networks, with_networks

KIND = "Delta-IRIS"
Stack = TypeVar("Stack", bound=StackConfig)


def sized(config: DeltaIrisConfig, shapes: Mapping[str, Shape]) -> DeltaIrisConfig:
    """`config` with the sizes of the checkpoint whose tensors have these names and shapes, which knows all its actions.

    Raises ValueError, in one line, for the first name that is missing or belongs to no network, for a tensor whose
    shape is of another kind, and where shapes do not fit each other.
    """
    require_networks(shapes, NETWORKS, KIND)
    found = Shapes(shapes, KIND)
    tokenizer = _tokenizer(found, config.tokenizer)
    world_model = _world_model(found, config.world_model, tokenizer)
    return with_networks(config, tokenizer, world_model, _actor(found, config.actor_critic, tokenizer))


def _tokenizer(found: Shapes, given: DeltaTokenizerConfig) -> DeltaTokenizerConfig:
    seen = found.of("tokenizer.encoder.encoder.0.weight", 4)[1]
    actions, plane = found.of("tokenizer.encoder_act_emb.weight", 2)
    side = math.isqrt(plane)
    if side**2 != plane:
        raise ValueError(f"its actions are planes of {plane} pixels, which are no square")
    encoder = _encoder(found, "tokenizer.encoder.encoder.", given.encoder)
    decoder = _decoder(found, "tokenizer.decoder.decoder.", given.decoder)
    width, grid = found.of("tokenizer.quantizer.pre_quant_proj.weight", 2)[1], side // encoder.stride
    vocabulary, code_dim = found.of("tokenizer.quantizer.codebook", 2)
    numbers = found.of("tokenizer.decoder_act_emb.weight", 2)[1]
    return replace(
        given,
        vocab_size=vocabulary,
        code_dim=code_dim,
        tokens_per_frame=grid**2 * encoder.latent // width,
        encoder=encoder,
        decoder=decoder,
        frame_cnn=_encoder(found, "tokenizer.frame_cnn.encoder.", given.frame_cnn),
        action_channels=numbers // grid**2,
        resolution=side,
        frame_channels=(seen - 1) // 2,
        num_actions=actions,
    )


def _world_model(found: Shapes, given: WorldModelConfig, tokenizer: DeltaTokenizerConfig) -> WorldModelConfig:
    positions, width = found.of("world_model.transformer.pos_emb.weight", 2)
    rewards = found.of("world_model.head_rewards.head_module.2.weight", 2)[0]
    kinds: dict[int, Any] = {3: "sign", POINTS: "two_hot"}
    if rewards not in kinds:
        raise ValueError(f"its rewards are of {rewards} classes: 3 (signs) and {POINTS} (two-hot) are known here")
    heads = given.heads * width // given.width if given.heads * width % given.width == 0 else given.heads
    return replace(
        given,
        max_steps=positions // (tokenizer.tokens_per_frame + 2),
        layers=found.count(r"world_model\.transformer\.blocks\.(\d{1,2})\."),
        heads=heads,
        width=width,
        frame_cnn=_encoder(found, "world_model.frame_cnn.0.encoder.", given.frame_cnn),
        num_actions=found.of("world_model.act_emb.weight", 2)[0],
        rewards=kinds[rewards],
    )


def _actor(found: Shapes, given: DeltaActorConfig, tokenizer: DeltaTokenizerConfig) -> DeltaActorConfig:
    actions, hidden = found.of("actor_critic.model.actor_linear.weight", 2)
    values = found.of("actor_critic.model.critic_linear.weight", 2)[0]
    kinds: dict[int, Any] = {1: "mean", POINTS: "two_hot"}
    if values not in kinds:
        raise ValueError(f"its critic says {values} numbers: 1 and {POINTS} (two-hot) are known here")
    return replace(
        given,
        frame_cnn=_encoder(found, "actor_critic.model.cnn.0.encoder.", given.frame_cnn),
        hidden=hidden,
        num_actions=actions,
        resolution=tokenizer.resolution,
        frame_channels=tokenizer.frame_channels,
        values=kinds[values],
    )


def _encoder(found: Shapes, prefix: str, given: EncoderConfig) -> EncoderConfig:
    """Residual blocks, each halved where a convolution of its own follows, between the first and the last one."""
    last, widths, down = _last(found, prefix), list[int](), list[int]()
    for place in range(1, last - 2):
        if _resizes(found, prefix, place) and down:
            down[-1] = 1
        else:
            widths.append(found.of(f"{prefix}{place}.f.5.weight", 4)[0])
            down.append(0)
    channels, latent = (found.of(f"{prefix}{place}.weight", 4)[0] for place in (0, last))
    return replace(_levels(given, prefix, channels, widths, down), latent=latent)


def _decoder(found: Shapes, prefix: str, given: StackConfig) -> StackConfig:
    """The same backwards: a residual block's level is doubled where a convolution of its own comes before."""
    last, widths, down, doubled = _last(found, prefix), list[int](), list[int](), 0
    for place in range(1, last - 2):
        if _resizes(found, prefix, place):
            doubled = 1
        else:
            widths.append(found.of(f"{prefix}{place}.f.2.weight", 4)[1])
            down.append(doubled)
            doubled = 0
    channels = found.of(f"{prefix}{last}.weight", 4)[1]
    return _levels(given, prefix, channels, widths[::-1], down[::-1])


def _last(found: Shapes, prefix: str) -> int:
    """The place of the last convolution; behind the levels are a norm and a SiLU before it."""
    return found.count(prefix.replace(".", "[.]") + r"(\d{1,2})[.]") - 1


def _resizes(found: Shapes, prefix: str, place: int) -> bool:
    return bool(found.first(f"{prefix}{place}.conv.weight".replace(".", "[.]") + "$"))


def _levels(given: Stack, prefix: str, channels: int, widths: list[int], down: list[int]) -> Stack:
    if not widths or any(width % channels for width in widths):
        raise ValueError(f"its '{prefix}' has levels of {widths} channels beside {channels}: each is to be a multiple")
    return replace(given, channels=channels, mult=tuple(width // channels for width in widths), down=tuple(down))
