"""IRIS's sizes, read off a released checkpoint: what a flat state_dict's names and shapes say of the three networks.

Not every number leaves a trace in shapes: heads, groups of a norm, and all that belongs to learning are those of the
config that is given. Checkpoints of the IRIS thesis are told by their names: GPT-2's in the blocks, a neural circuit's
layers, a tokenizer's critic. Imports no torch. Run: `worldline import iris --file Pong.pt`.

Shapes: V codes, E and Z channels of a code and of a latent, D numbers of a token, A actions, K tokens a frame.
Source of the thesis's names: gamecraftCZ/daisy.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.iris.config import ActorCriticConfig, IrisConfig, WorldModelConfig
from models.practice.config import NETWORKS
from models.practice.shapes import Shape, Shapes, require_networks, with_networks
from models.tokenizers.config import TokenizerConfig, TokenizerWeights

GPT2_BLOCKS = r"world_model\.transformer\.blocks\.0\.attn\.c_attn\."
GPT2_HEAD = 64  # numbers of width that make a head of GPT-2, in every size


def sized(config: IrisConfig, shapes: Mapping[str, Shape]) -> IrisConfig:
    """`config` with the sizes of the checkpoint whose tensors have these names and shapes, which knows all its actions.

    Raises ValueError, in one line, for the first name that is missing or belongs to no network, for a tensor whose
    shape is of another kind, and where shapes do not fit each other.
    """
    require_networks(shapes, NETWORKS, "IRIS")
    found = Shapes(shapes, "IRIS")
    actor_critic = _actor_critic(found, config.actor_critic)
    tokenizer = _tokenizer(found, config.tokenizer, actor_critic.resolution)
    world_model = _world_model(found, config.world_model, tokenizer.tokens_per_frame)
    return with_networks(config, tokenizer, world_model, actor_critic, weights=_weights(tokenizer, config.weights))


def _actor_critic(found: Shapes, given: ActorCriticConfig) -> ActorCriticConfig:
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


def _tokenizer(found: Shapes, given: TokenizerConfig, resolution: int) -> TokenizerConfig:
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
        value_layers=_value_layers(found),
    )


def _value_layers(found: Shapes) -> tuple[int, ...]:
    """Hidden units of the critic that reads codes, whose linear layers have odd numbers; the last has one output."""
    count = found.count(r"tokenizer\.critic\.layers\.(\d{1,2})\.weight$")
    return tuple(found.of(f"tokenizer.critic.layers.{number}.weight", 2)[0] for number in range(1, count, 2))[:-1]


def _weights(tokenizer: TokenizerConfig, given: TokenizerWeights) -> TokenizerWeights:
    """A critic that came with the tokenizer learns on, with weight 1 unless another one is given."""
    return replace(given, value=(given.value or 1.0) if tokenizer.value_layers else 0.0)


def _world_model(found: Shapes, given: WorldModelConfig, tokens: int) -> WorldModelConfig:
    if name := found.first(r"world_model\.tokenizer\."):
        raise ValueError(
            f"it holds '{name}': its world model is the game itself (the thesis's dummy world), which has no weights: "
            "train by recipe iris_oracle instead"
        )
    if name := found.first(r"world_model\..*(pre|post)_transformer_layer"):
        raise ValueError(f"it holds '{name}': layers around the blocks have no published names, and are not read")
    actions, width = found.of("world_model.embedder.embedding_tables.0.weight", 2)
    if found.first(r"world_model\.ncp_layers\."):
        sizes = _circuits(found, width, tokens)
    else:
        blocks = found.count(r"world_model\.transformer\.blocks\.(\d{1,3})\.")
        sizes = {"layers": blocks, "max_steps": _steps(found, tokens)}
        if found.first(GPT2_BLOCKS) and given.heads == WorldModelConfig().heads and width % GPT2_HEAD == 0:
            sizes["heads"] = width // GPT2_HEAD
    return replace(
        given,
        vocab_size=found.of("world_model.embedder.embedding_tables.1.weight", 2)[0],
        tokens_per_frame=tokens,
        width=width,
        num_actions=actions,
        **sizes,
    )


def _steps(found: Shapes, tokens: int) -> int:
    """How many steps have positions."""
    positions, _ = found.of("world_model.pos_emb.weight", 2)
    if positions % (tokens + 1):
        raise ValueError(
            f"it has {positions} positions, which are no whole steps of {tokens} tokens and an action: its tokenizer "
            "and its world_model are not of one agent"
        )
    return positions // (tokens + 1)


def _circuits(found: Shapes, width: int, tokens: int) -> dict[str, Any]:
    """Of neural circuits, which read a token at once or a whole step; how long segments are the positions tell."""
    cell = "world_model.ncp_layers.0.ncp.rnn_cell"
    units = [found.of(f"{cell}.layer_{number}.ff1.bias", 1)[0] for number in range(3)]
    if units[-1] not in (width, width * (tokens + 1)):
        raise ValueError(
            f"its circuits have {units[-1]} outputs, which are neither a token's {width} numbers nor those of a frame "
            f"of {tokens} tokens and an action: its tokenizer and its world_model are not of one agent"
        )
    by_token, positions = units[-1] == width, bool(found.first(r"world_model\.pos_emb\.weight$"))
    told: dict[str, Any] = {"kind": "ncp_tokens", "positions": positions} if by_token else {"kind": "ncp_frames"}
    if by_token and positions:
        told["max_steps"] = _steps(found, tokens)
    return told | {
        "layers": found.count(r"world_model\.ncp_layers\.(\d{1,3})\."),
        "units": sum(units),
        "layer_norm": bool(found.first(r"world_model\.ncp_layers\.0\.norm\.")),
    }
