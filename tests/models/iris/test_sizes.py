"""Sizes of a checkpoint are read off its names and shapes, or the first thing that does not fit is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.iris.agent import IrisAgent
from models.iris.config import TOKENIZER, ActorCriticConfig, IrisConfig, WorldModelConfig
from models.iris.sizes import Shape, sized
from models.parity.golden_file import GoldenFile
from models.parity.iris.config import iris_config
from models.parity.thesis.config import thesis_config
from models.tokenizers.config import TokenizerWeights
from tests.models.iris.hashed import GOLDEN

THEIRS = {name: tuple(shape) for name, (_, *shape) in json.loads((GOLDEN / "iris_state_dict.json").read_text()).items()}
Shapes = dict[str, Shape]


def shapes_of(config: IrisConfig) -> Shapes:
    agent = IrisAgent(config)
    parts = {name: agent.original_state_dict(name) for name in agent.networks}
    return {f"{name}.{key}": tuple(each.shape) for name, part in parts.items() for key, each in part.items()}


def test_the_released_ones_have_the_papers_sizes() -> None:
    assert sized(IrisConfig(), THEIRS) == replace(
        IrisConfig(), world_model=WorldModelConfig(num_actions=4), actor_critic=ActorCriticConfig(num_actions=4)
    )


def test_sizes_of_a_golden_file_are_those_that_it_states() -> None:
    with np.load(GOLDEN / "iris_atari.npz") as file:
        golden = GoldenFile(dict(file))
    stated, _ = iris_config(golden.config)
    shapes = {
        name.removeprefix("weights/").replace("/", "."): array.shape
        for name, array in golden.arrays.items()
        if name.startswith("weights/")
    }
    found = sized(IrisConfig(frame=stated.frame, world_model=replace(WorldModelConfig(), heads=1)), shapes)
    assert found.tokenizer.level_channels == stated.tokenizer.level_channels
    same = {"channel_mult": (), "attention_at": tuple(sorted(stated.tokenizer.attention_at))}
    assert replace(found.tokenizer, channel_mult=()) == replace(stated.tokenizer, **same)
    assert replace(found.world_model, heads=stated.world_model.heads, dropout=0.0) == stated.world_model
    assert found.actor_critic.channels == stated.actor_critic.channels


@settings(max_examples=25)
@given(
    widths=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    levels=st.integers(1, 3),
    steps=st.integers(2, 4),
    layers=st.integers(1, 2),
    actions=st.integers(1, 5),
    factor=st.integers(1, 2),
)
def test_whatever_the_sizes_are_they_are_found_again(
    widths: list[int], levels: int, steps: int, layers: int, actions: int, factor: int
) -> None:
    side = 16
    config = IrisConfig(
        frame=(side, side, 3),
        tokenizer=replace(
            TOKENIZER, vocab_size=7, embed_dim=4, z_channels=5, channels=2, norm_groups=2, res_blocks=1,
            resolution=side, downsample=(2,) * levels, attention_at=(side >> 1,),
            channel_mult=(1,) * levels + (2,) if factor == 2 else (),
        ),
        world_model=WorldModelConfig(7, (side >> levels) ** 2, steps, layers, 1, 4, 0.1, actions),
        actor_critic=ActorCriticConfig(tuple(widths), 3, num_actions=actions, resolution=side),
    )  # fmt: skip
    given_ = IrisConfig(
        frame=(side, side, 3),
        tokenizer=replace(TOKENIZER, norm_groups=2, resolution=side),
        world_model=WorldModelConfig(heads=1),
    )
    assert sized(given_, shapes_of(config)) == config


TINY = IrisConfig(
    frame=(16, 16, 3),
    tokenizer=replace(
        TOKENIZER, vocab_size=7, embed_dim=4, z_channels=5, channels=2, norm_groups=2, res_blocks=1, resolution=16,
        downsample=(2, 2), attention_at=(8,), channel_mult=(),
    ),
    world_model=WorldModelConfig(7, 16, 3, 2, 4, 4, 0.1, 3),
    actor_critic=ActorCriticConfig((2, 3), 3, num_actions=3, resolution=16),
)  # fmt: skip
GIVEN = IrisConfig(frame=(16, 16, 3), tokenizer=replace(TOKENIZER, norm_groups=2, resolution=16))


@pytest.mark.parametrize(
    "world",
    [
        {"kind": "ncp_tokens", "units": 20},
        {"kind": "ncp_tokens", "units": 15, "layer_norm": False, "layers": 1},
        {"kind": "ncp_tokens", "units": 20, "positions": False, "max_steps": 20},
        {"kind": "ncp_frames", "units": 90, "max_steps": 20},
        {"kind": "ncp_frames", "units": 75, "layer_norm": False, "max_steps": 20},
    ],
)
def test_circuits_are_told_by_their_names(world: dict[str, Any]) -> None:
    """By frames, or without positions, nothing tells how long segments are: 20 steps, as IRIS's."""
    config = replace(TINY, world_model=replace(TINY.world_model, **world))
    assert sized(GIVEN, shapes_of(config)) == config


def test_a_tokenizers_critic_learns_on() -> None:
    config = replace(TINY, tokenizer=replace(TINY.tokenizer, value_layers=(6, 5)), weights=TokenizerWeights(value=1.0))
    shapes = shapes_of(config)
    assert sized(GIVEN, shapes) == config
    weighted = replace(GIVEN, weights=TokenizerWeights(value=0.25))
    assert sized(weighted, shapes).weights.value == 0.25 and sized(weighted, shapes_of(TINY)).weights.value == 0.0


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16), (1280, 20), (100, 4)])
def test_heads_of_a_gpt2_are_told_by_its_names_and_width(width: int, heads: int) -> None:
    """In every published size 64 numbers make a head; of others, and where one is given, they are as given."""
    shapes = dict(THEIRS)
    for name in [each for each in shapes if each.startswith("world_model.transformer")]:
        del shapes[name]
    block = "world_model.transformer.blocks"
    shapes |= {f"{block}.{layer}.attn.c_attn.weight": (3 * width, width) for layer in range(12)}
    tables = "world_model.embedder.embedding_tables"
    shapes |= {f"{tables}.0.weight": (4, width), f"{tables}.1.weight": (512, width)}
    shapes |= {"world_model.pos_emb.weight": (340, width)}
    found = sized(IrisConfig(), shapes).world_model
    assert (found.layers, found.width, found.heads, found.max_steps) == (12, width, heads, 20)
    given_ = IrisConfig(world_model=WorldModelConfig(heads=2))
    assert sized(given_, shapes).world_model.heads == 2


@pytest.mark.parametrize("variant", ["thesis_gpt2", "thesis_ncp_multi", "thesis_ncp_single"])
def test_sizes_of_the_thesis_golden_files_are_those_that_they_state(variant: str) -> None:
    with np.load(GOLDEN / f"{variant}.npz") as file:
        golden = GoldenFile(dict(file))
    stated, _ = thesis_config(golden.config)
    shapes = {
        name.removeprefix("weights/").replace("/", "."): array.shape
        for name, array in golden.arrays.items()
        if name.startswith("weights/") and not name.startswith("weights/hf/")
    }
    told_by_none = WorldModelConfig(heads=stated.world_model.heads, max_steps=stated.world_model.max_steps)
    given_ = IrisConfig(frame=stated.frame, world_model=told_by_none)
    found = sized(given_, shapes).world_model
    names = ("kind", "vocab_size", "tokens_per_frame", "max_steps", "layers", "heads", "width", "num_actions")
    names += () if stated.world_model.kind == "transformer" else ("units", "layer_norm", "positions")
    assert {name: getattr(found, name) for name in names} == {name: getattr(stated.world_model, name) for name in names}


def _without(shapes: Shapes, name: str) -> Shapes:
    return {each: shape for each, shape in shapes.items() if each != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s | {"optimizer.step": ()}, "holds 'optimizer.step', which belongs to none of tokenizer, world_m"),
        (lambda s: _without(s, "world_model.pos_emb.weight"), "it lacks 'world_model.pos_emb.weight', which every"),
        (lambda s: {}, "it lacks 'actor_critic.conv1.weight'"),
        (lambda s: s | {"world_model.pos_emb.weight": (340,)}, "of shape (340,), which has 2 axes in an IRIS"),
        (lambda s: s | {"world_model.pos_emb.weight": (341, 256)}, "has 341 positions, which are no whole steps of 16"),
        (lambda s: s | {"actor_critic.lstm.weight_ih": (2048, 1023)}, "an LSTM of 1023 inputs behind 64 channels"),
        (lambda s: s | {"actor_critic.lstm.weight_ih": (2048, 128)}, "an LSTM of 128 inputs behind 64 channels"),
        (lambda s: s | {"actor_critic.actor_linear.weight": (6, 512)}, "world_model.num_actions is 4 but actor_critic"),
        (lambda s: s | {"tokenizer.embedding.weight": (99, 512)}, "tokenizer.vocab_size is 99 but world_model.vocab"),
        (lambda s: s | {"tokenizer.encoder.conv_in.weight": (0, 3, 3, 3)}, "of shape (0, 3, 3, 3)"),
        (lambda s: s | {"actor_critic.conv9.weight": (1, 1, 3, 3)}, "it lacks 'actor_critic.conv5.weight'"),
        (lambda s: s | {"world_model.tokenizer.embedding.weight": (512, 512)}, "its world model is the game itself"),
        (
            lambda s: s | {"world_model.transformer.pre_transformer_layer.0.weight": (256, 256)},
            "layers around the blocks have no published names",
        ),
        (
            lambda s: s | {f"world_model.ncp_layers.0.ncp.rnn_cell.layer_{n}.ff1.bias": (9,) for n in range(3)},
            "its circuits have 9 outputs, which are neither a token's 256 numbers nor",
        ),
        (
            lambda s: s | {"world_model.ncp_layers.0.ncp.rnn_cell.layer_0.ff1.bias": (9,)},
            "it lacks 'world_model.ncp_layers.0.ncp.rnn_cell.layer_1.ff1.bias'",
        ),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[Shapes], Shapes], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        sized(IrisConfig(), change(THEIRS))
    assert words in str(caught.value) and "\n" not in str(caught.value)
