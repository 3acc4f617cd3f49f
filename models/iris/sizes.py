"""IRIS's sizes, read off a released checkpoint: what a flat state_dict's names and shapes say of the three networks.

Not every number leaves a trace in shapes: heads, groups of a norm, and all that belongs to learning are those of the
config that is given. Imports no torch. Run: `worldline import iris --file Pong.pt`.

Shapes: V codes, E and Z channels of a code and of a latent, D numbers of a token, A actions, K tokens a frame.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from models.iris.config import ActorCriticConfig, IrisConfig, WorldModelConfig
from models.iris.family import NETWORKS
from models.tokenizers.config import TokenizerConfig

Shape = tuple[int, ...]


def sized(config: IrisConfig, shapes: Mapping[str, Shape]) -> IrisConfig:
    """`config` with the sizes of the checkpoint whose tensors have these names and shapes, which knows all its actions.

    Raises ValueError, in one line, for the first name that is missing or belongs to no network, for a tensor whose
    shape is of another kind, and where shapes do not fit each other.
    """
    if strangers := [name for name in shapes if name.partition(".")[0] not in NETWORKS]:
        raise ValueError(
            f"it holds '{strangers[0]}', which belongs to none of {', '.join(NETWORKS)}: give the state_dict of a "
            "whole IRIS, each network's names behind its own"
        )
    found = _Shapes(shapes)
    actor_critic = _actor_critic(found, config.actor_critic)
    tokenizer = _tokenizer(found, config.tokenizer, actor_critic.resolution)
    world_model = _world_model(found, config.world_model, tokenizer.tokens_per_frame)
    made = replace(
        config,
        actions=(),
        frame=(*config.frame[:2], tokenizer.frame_channels),  # what is shown is resized where the networks see less
        tokenizer=tokenizer,
        world_model=world_model,
        actor_critic=actor_critic,
    )
    made.require_fit(world_model.max_steps)
    return made


class _Shapes:
    """Shapes by name; what is asked for and missing is an error that names it."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes

    def of(self, name: str, axes: int) -> Shape:
        """The shape of a tensor of that many axes, none of which is empty."""
        if name not in self._shapes:
            raise ValueError(f"it lacks '{name}', which every IRIS has: give the state_dict of a whole agent")
        shape = tuple(self._shapes[name])
        if len(shape) != axes or 0 in shape:
            raise ValueError(f"it holds '{name}' of shape {shape}, which has {axes} axes in an IRIS: give another file")
        return shape

    def count(self, pattern: str) -> int:
        """How many there are of what is numbered in the names: one more than the highest number."""
        numbers = (int(found[1]) for name in self._shapes if (found := re.match(pattern, name)))
        return max(numbers, default=-1) + 1


def _actor_critic(found: _Shapes, given: ActorCriticConfig) -> ActorCriticConfig:
    numbers = range(1, max(found.count(r"actor_critic\.conv(\d{1,2})\.weight$"), 2))
    channels = tuple(found.of(f"actor_critic.conv{number}.weight", 4)[0] for number in numbers)
    pixels, odd = divmod(found.of("actor_critic.lstm.weight_ih", 2)[1], channels[-1])
    side = math.isqrt(pixels)
    if odd or side**2 != pixels:
        raise ValueError(
            f"it has an LSTM of {pixels * channels[-1] + odd} inputs behind {channels[-1]} channels, which makes no "
            "square: its actor_critic is no IRIS's"
        )
    return replace(
        given,
        channels=channels,
        hidden=found.of("actor_critic.lstm.weight_hh", 2)[1],
        num_actions=found.of("actor_critic.actor_linear.weight", 2)[0],
        resolution=side << len(channels),
        frame_channels=found.of("actor_critic.conv1.weight", 4)[1],
    )


def _tokenizer(found: _Shapes, given: TokenizerConfig, resolution: int) -> TokenizerConfig:
    down = r"tokenizer\.encoder\.down\.(\d{1,2})\."
    levels = range(max(found.count(down), 1))
    attends = [found.count(down.replace(r"(\d{1,2})", str(level)) + r"attn\.(\d{1,2})\.") > 0 for level in levels]
    channels, frame_channels = found.of("tokenizer.encoder.conv_in.weight", 4)[:2]
    widths = [found.of(f"tokenizer.encoder.down.{level}.block.0.conv1.weight", 4)[0] for level in levels]
    factors = tuple(width // channels for width in widths)
    vocab_size, embed_dim = found.of("tokenizer.embedding.weight", 2)
    return replace(
        given,
        vocab_size=vocab_size,
        embed_dim=embed_dim,
        z_channels=found.of("tokenizer.pre_quant_conv.weight", 4)[1],
        channels=channels,
        channel_mult=() if set(factors) == {1} else factors,
        res_blocks=found.count(r"tokenizer\.encoder\.down\.0\.block\.(\d{1,2})\."),
        downsample=(2,) * (len(levels) - 1),
        attention_at=tuple(sorted(resolution >> level for level in levels if attends[level])),
        resolution=resolution,
        frame_channels=frame_channels,
    )


def _world_model(found: _Shapes, given: WorldModelConfig, tokens: int) -> WorldModelConfig:
    actions, width = found.of("world_model.embedder.embedding_tables.0.weight", 2)
    positions, _ = found.of("world_model.pos_emb.weight", 2)
    if positions % (tokens + 1):
        raise ValueError(
            f"it has {positions} positions, which are no whole steps of {tokens} tokens and an action: its tokenizer "
            "and its world_model are not of one agent"
        )
    return replace(
        given,
        vocab_size=found.of("world_model.embedder.embedding_tables.1.weight", 2)[0],
        tokens_per_frame=tokens,
        max_steps=positions // (tokens + 1),
        layers=found.count(r"world_model\.transformer\.blocks\.(\d{1,3})\."),
        width=width,
        num_actions=actions,
    )
