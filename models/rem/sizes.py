"""REM's sizes, read off a checkpoint: what a flat state_dict's names and shapes say of the three networks.

Not every number leaves a trace in shapes: norm groups, blocks and context, whether embeddings are shared, whether the
actor is told of actions, and all that belongs to learning are those of the config that is given. Checkpoints of before
February 2024 have a decoder of 32 norm groups in the same shapes and decode differently: tokenizer.decoder_groups=32.
Imports no torch. Run: `worldline import rem --file last.pt --game Pong`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.practice.config import NETWORKS
from models.practice.shapes import Shape, Shapes, require_networks, with_networks
from models.rem.config import RemActorConfig, RemConfig, WorldModelConfig
from models.tokenizers.config import TokenizerConfig

GATES: Mapping[int, Any] = {4: "lstm", 3: "gru"}  # rows of a cell's weights by hidden unit


def sized(config: RemConfig, shapes: Mapping[str, Shape]) -> RemConfig:
    """`config` with the sizes of the checkpoint whose tensors have these names and shapes, which knows all its actions.

    Raises ValueError, in one line, for the first name that is missing or belongs to no network, for a tensor whose
    shape is of another kind, and where shapes do not fit each other.
    """
    require_networks(shapes, NETWORKS, "REM")
    found = Shapes(shapes, "REM")
    tokenizer = _tokenizer(found, config.tokenizer)
    world_model = _world_model(found, config.world_model, tokenizer)
    return with_networks(config, tokenizer, world_model, _actor(found, config.actor_critic, tokenizer))


def _tokenizer(found: Shapes, given: TokenizerConfig) -> TokenizerConfig:
    vocab_size, embed_dim = found.of("tokenizer.embedding.weight", 2)
    channels, frame_channels = found.of("tokenizer.encoder.in_conv.weight", 4)[:2]
    halvings = found.count(r"tokenizer\.encoder\.blocks\.(\d{1,2})\.")
    tokens = found.of("world_model.placeholder_embeddings.weight", 2)[0] - 1
    grid = math.isqrt(max(tokens, 0))
    if grid**2 != tokens or not grid or not halvings:
        raise ValueError(f"it predicts {tokens} tokens a frame behind {halvings} halvings, which makes no square grid")
    return replace(
        given,
        vocab_size=vocab_size,
        embed_dim=embed_dim,
        z_channels=found.of("tokenizer.pre_quant_conv.weight", 4)[1],
        channels=channels,
        downsample=(2,) * halvings,
        resolution=grid << halvings,
        frame_channels=frame_channels,
    )


def _world_model(found: Shapes, given: WorldModelConfig, tokenizer: TokenizerConfig) -> WorldModelConfig:
    rows, width = found.of("world_model.embedding.weight", 2)
    angles = "world_model._model.layers.0.retention.thetas"
    heads = width // found.of(angles, 1)[0] if found.first(angles.replace(".", r"\.")) else given.heads
    return replace(
        given,
        layers=found.count(r"world_model\._model\.layers\.(\d{1,2})\."),
        heads=heads,
        width=width,
        shared_embeddings=given.shared_embeddings and tokenizer.embed_dim == width,
        num_actions=rows - tokenizer.vocab_size - 1,
    )


def _actor(found: Shapes, given: RemActorConfig, tokenizer: TokenizerConfig) -> RemActorConfig:
    sizes: dict[str, Any] = {
        "num_actions": found.of("actor_critic.actor_linear.weight", 2)[0],
        "hidden": found.of("actor_critic.actor_linear.weight", 2)[1],
        "resolution": tokenizer.resolution,
        "frame_channels": tokenizer.frame_channels,
    }
    numbers = range(1, found.count(r"actor_critic\.conv(\d{1,2})\.weight$"))
    if numbers:
        channels = tuple(found.of(f"actor_critic.conv{number}.weight", 4)[0] for number in numbers)
        return replace(given, kind="pixels", channels=channels, rnn="lstm", action_inputs=False, **sizes)
    rows, hidden = found.of("actor_critic.rnn.weight_hh", 2)
    if rows % hidden or rows // hidden not in GATES:
        raise ValueError(f"it has a recurrent cell of {rows} rows for {hidden} units, which is no LSTM and no GRU")
    layers = found.count(r"actor_critic\.convs\.(\d{1,2})\.")
    return replace(given, kind="codes", layers=layers, rnn=GATES[rows // hidden], **sizes)
