"""REM's recipes: an agent that plays 100,000 steps, as IRIS does, and imagines a whole frame in one pass.

`rem` is the paper's, under the rules of its own code, which are IRIS's; the others are its ablations, each with one
number changed, and `rem_freeway`, which learns Freeway of the trajectories that `iris_mini` learns from, on a small
scale, and never plays. `--set learn.world_model.attention=true` has Simulus's attention in place of the RetNet.
Run: `worldline experiment new pong-rem --recipe rem --games Pong`, then `worldline materialize pong-rem`.
Source: arXiv 2402.05643, section 3 and appendix A, with the numbers of its code where the paper is silent.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.rem.config import RemActorConfig, RemConfig, WorldModelConfig
from models.rem.sizes import sized
from pipelines.evaluation.player_settings import ACTOR, SearchConfig
from pipelines.graph.recipe import Recipe
from pipelines.recipes.iris import iris_mini
from pipelines.recipes.released import of_game
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Practice


def rem() -> Recipe:
    """REM on Atari 100k: 600 rounds of 200 steps of play (500 of them) and up to 200 updates of each network."""
    return Recipe("rem", games=("Pong",)).but(
        learn=LearnConfig(
            networks=RemConfig(),
            rounds=600,
            uses=(
                Practice("tokenizer", 128, updates=200, start=5, weight_decay=0.01, clip=10.0),
                Practice("world_model", 64, updates=200, lr=2e-4, start=25, weight_decay=0.05, clip=100.0),
                Practice("actor_critic", 128, updates=100, start=50, weight_decay=0.01, clip=3.0),
            ),
            collect=PlayTurns("iris-train", steps=200, until=500, epsilon=0.01),
            check=CheckPlay(every=10, episodes=16, temperature=0.5, protocol="iris"),
            loop=LoopConfig(save_seconds=600.0),
            sampling="steps",
        ),
        evaluate=EvaluateConfig(
            protocol="iris", planner=ACTOR, episodes=100, epsilon=0.0, search=SearchConfig(temperature=0.5)
        ),
    )


def _with(name: str, part: str, **changes: Any) -> Recipe:
    """`rem` with these numbers of a part of its networks."""
    recipe = rem()
    plain = networks(recipe)
    changed = replace(plain, **{part: replace(getattr(plain, part), **changes)})
    return recipe.but(name=name, learn=replace(recipe.of(LearnConfig), networks=changed))


def networks(recipe: Recipe) -> RemConfig:
    """Those that a recipe of this file learns."""
    found = recipe.of(LearnConfig).networks
    assert isinstance(found, RemConfig)
    return found


def released(given: RemConfig, shapes: Mapping[str, tuple[int, ...]], game: str) -> RemConfig:
    """The networks of a checkpoint of one game: `given` with the sizes that its names and shapes tell.

    Raises ValueError as `models.rem.sizes.sized`, UsageError as `of_game`.
    """
    return of_game(sized(given, shapes), game)


def rem_4x4() -> Recipe:
    """REM whose tokenizer makes 16 tokens of a frame, as IRIS's does, in place of 64."""
    return _with("rem_4x4", "tokenizer", downsample=(2, 2, 2, 2))


def rem_no_pop() -> Recipe:
    """REM that imagines a frame token by token: without parallel observation prediction."""
    return _with("rem_no_pop", "world_model", pop=False)


def rem_separate_embeddings() -> Recipe:
    """REM whose world model has embeddings of its own in place of the tokenizer's codes."""
    return _with("rem_separate_embeddings", "world_model", shared_embeddings=False)


def rem_no_action_inputs() -> Recipe:
    """REM whose actor-critic is not told of the actions that were done."""
    return _with("rem_no_action_inputs", "actor_critic", action_inputs=False)


def rem_pixel_critic() -> Recipe:
    """REM whose actor-critic sees decoded frames, as IRIS's does, in place of codes."""
    return _with("rem_pixel_critic", "actor_critic", kind="pixels", action_inputs=False)


def rem_freeway() -> Recipe:
    """Freeway from the trajectories of `iris_mini`, tiny networks, within the hour on a processor; no step is played.

    Its tokenizer is half as wide as that of `iris_mini`; the world model and the actor read its codes as they are.
    It foresees no rewards of so little learning: BENCHMARKS.md, "Burn-in without actions", has what came of it.
    """
    data = iris_mini()
    learn = data.of(LearnConfig)
    seeing: Any = learn.networks
    given = RemConfig(
        frame=seeing.frame,
        tokenizer=replace(seeing.tokenizer, channels=16, vocab_size=256),
        world_model=WorldModelConfig(layers=2, width=64, dropout=0.0),
        actor_critic=RemActorConfig(hidden=128, resolution=48, gamma=0.97),
        weights=seeing.weights,
    )
    uses = (
        Practice("tokenizer", 32, updates=1000, lr=2e-3, weight_decay=0.01, clip=10.0),
        Practice("world_model", 8, updates=800, lr=1e-3, weight_decay=0.05, clip=100.0),
        Practice("actor_critic", 16, updates=130, lr=2e-3, weight_decay=0.01, clip=3.0),
    )
    return data.but(name="rem_freeway", learn=replace(learn, networks=given, uses=uses))
