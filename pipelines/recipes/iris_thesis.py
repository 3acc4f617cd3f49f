"""IRIS with another world model, tokenizer or view of the game: the variants of a thesis, each derived from `iris`.

GPT-2's blocks are read from a file of yours: `worldline experiment new mine --recipe iris_gpt2_frozen --set
learn.gpt2_file=model.safetensors`, whose sha256 the first refusal tells. A tokenizer that is already there is
kept by `iris_fixed_tokenizer` with `--set learn.agent=imported/Pong/0123456789abcdef`, the address of an IRIS that has
one, as `worldline list` prints it.
Source: gamecraftCZ/daisy, the configurations of its world models; numbers that it does not change are IRIS's.
"""

from dataclasses import replace
from typing import Any

from models.iris.config import IrisConfig
from models.tokenizers.config import TokenizerWeights
from pipelines.graph.recipe import Recipe
from pipelines.recipes.iris import iris
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig

GPT2 = {"layers": 12, "heads": 12, "width": 768}


def _with_world(name: str, **sizes: Any) -> Recipe:
    """`iris` with these numbers of its world model."""
    recipe = iris()
    learn = recipe.of(LearnConfig)
    assert isinstance(learn.networks, IrisConfig)
    networks = replace(learn.networks, world_model=replace(learn.networks.world_model, **sizes))
    return recipe.but(name=name, seed=42, learn=replace(learn, networks=networks))


def iris_gpt2() -> Recipe:
    """IRIS on a transformer of GPT-2's size (12 blocks of 12 heads, width 768) with weights of its own."""
    return _with_world("iris_gpt2", **GPT2)


def iris_gpt2_pretrained() -> Recipe:
    """IRIS on GPT-2: its blocks begin with the weights of learn.gpt2_file and learn on."""
    return _with_world("iris_gpt2_pretrained", **GPT2, pretrained=True)


def iris_gpt2_frozen() -> Recipe:
    """IRIS on GPT-2 whose attention and MLPs stay as they are; norms, embeddings and heads learn."""
    return _with_world("iris_gpt2_frozen", **GPT2, pretrained=True, frozen=True)


def iris_gpt2_frozen_but_last() -> Recipe:
    """IRIS on GPT-2 that stays as it is but for its last block."""
    return _with_world("iris_gpt2_frozen_but_last", **GPT2, pretrained=True, frozen=True, learning_blocks=1)


def iris_gpt2_medium_frozen() -> Recipe:
    """IRIS on GPT-2 medium (24 blocks of 16 heads, width 1024) that stays as it is."""
    return _with_world("iris_gpt2_medium_frozen", layers=24, heads=16, width=1024, pretrained=True, frozen=True)


def iris_gpt2_large_frozen() -> Recipe:
    """IRIS on GPT-2 large (36 blocks of 20 heads, width 1280) that stays as it is."""
    return _with_world("iris_gpt2_large_frozen", layers=36, heads=20, width=1280, pretrained=True, frozen=True)


def iris_ncp_tokens() -> Recipe:
    """IRIS whose world model is a neural circuit (CfC, 512 units) that reads token after token."""
    return _with_world("iris_ncp_tokens", kind="ncp_tokens", layers=1, width=256, units=512)


def iris_ncp_frames() -> Recipe:
    """IRIS whose world model is two neural circuits (CfC, 3264 units each) that read a whole frame at once."""
    return _with_world("iris_ncp_frames", kind="ncp_frames", layers=2, width=128, units=3264)


def iris_value_critic() -> Recipe:
    """IRIS whose tokenizer also learns to tell the discounted return of a frame's episode from its codes."""
    recipe = iris()
    learn = recipe.of(LearnConfig)
    assert isinstance(learn.networks, IrisConfig)
    tokenizer = replace(learn.networks.tokenizer, value_layers=(512, 512))
    networks = replace(learn.networks, tokenizer=tokenizer, weights=TokenizerWeights(value=1.0, returns_scale=10.0))
    return recipe.but(name="iris_value_critic", seed=42, learn=replace(learn, networks=networks))


def iris_fixed_tokenizer() -> Recipe:
    """IRIS that keeps the tokenizer of the agent it starts from (learn.agent), and learns the rest."""
    recipe = iris()
    learn = recipe.of(LearnConfig)
    uses = tuple(use for use in learn.uses if use.name != "tokenizer")
    return recipe.but(name="iris_fixed_tokenizer", seed=42, learn=replace(learn, uses=uses))


def iris_oracle() -> Recipe:
    """IRIS whose actor-critic practises in the game itself: the most that a world model could be worth to it."""
    recipe = iris()
    learn = recipe.of(LearnConfig)
    assert isinstance(learn.networks, IrisConfig)
    uses = tuple(use for use in learn.uses if use.name != "world_model")
    networks = replace(learn.networks, oracle=True)
    return recipe.but(name="iris_oracle", seed=42, learn=replace(learn, networks=networks, uses=uses))


def iris_noise() -> Recipe:
    """IRIS that sees everything through noise of 5% of a pixel's range, in training and when it is evaluated."""
    recipe = iris()
    learn, play = recipe.of(LearnConfig), recipe.of(EvaluateConfig)
    collect = replace(learn.collect, protocol=f"{learn.collect.protocol}+noise0.05")
    check = replace(learn.check, protocol=f"{learn.check.protocol}+noise0.05")
    return recipe.but(
        name="iris_noise",
        seed=42,
        learn=replace(learn, collect=collect, check=check),
        evaluate=replace(play, protocol=f"{play.protocol}+noise0.05"),
    )
