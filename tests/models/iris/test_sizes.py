"""Sizes of a checkpoint are read off its names and shapes, or the first thing that does not fit is named."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.iris.agent import IrisAgent
from models.iris.config import TOKENIZER, ActorCriticConfig, IrisConfig, WorldModelConfig
from models.iris.sizes import Shape, sized
from models.parity.golden_file import GoldenFile
from models.parity.iris.config import iris_config
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
    steps=st.integers(1, 4),
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
        actor_critic=ActorCriticConfig(tuple(widths), 3, actions, resolution=side),
    )  # fmt: skip
    given_ = IrisConfig(
        frame=(side, side, 3),
        tokenizer=replace(TOKENIZER, norm_groups=2, resolution=side),
        world_model=WorldModelConfig(heads=1),
    )
    assert sized(given_, shapes_of(config)) == config


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
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[Shapes], Shapes], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        sized(IrisConfig(), change(THEIRS))
    assert words in str(caught.value) and "\n" not in str(caught.value)
