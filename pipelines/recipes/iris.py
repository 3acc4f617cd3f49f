"""IRIS's recipes: an agent that plays 100,000 steps, learns a world model of them, and practises in it alone.

`iris` is the paper's, under the rules of its own code; a game is an artefact of its own, so that `--games` makes 26 of
them, and `--set seed=1` another run of each. `iris_offline` has the same networks for grey 84x84 and never plays: it
learns from the trajectories that JOWA learns from, and is scored by JOWA's rules. `iris_mini` does so on a small scale.
Run: `worldline experiment new pong-iris --recipe iris --games Pong`, then `worldline materialize pong-iris`.
Source: arXiv 2209.00588, section 3 and appendix A, with the numbers of its code where the paper is silent.
"""

from collections.abc import Mapping
from dataclasses import replace

from models.iris.config import ActorCriticConfig, IrisConfig, WorldModelConfig
from models.iris.sizes import sized
from models.jowa.config import JowaAgentConfig
from models.tokenizers.config import TokenizerWeights
from pipelines.evaluation.player_settings import ACTOR, SearchConfig
from pipelines.graph.recipe import Recipe
from pipelines.recipes.demo import demo
from pipelines.recipes.jowa import jowa_40m
from pipelines.recipes.released import of_game
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Practice


def iris() -> Recipe:
    """IRIS on Atari 100k: 600 rounds of 200 steps of play (500 of them) and 200 updates of each network."""
    return Recipe("iris", games=("Pong",)).but(
        learn=LearnConfig(
            networks=IrisConfig(),
            rounds=600,
            uses=(
                Practice("tokenizer", 256, updates=200, start=5, weight_decay=0.0, clip=10.0),
                Practice("world_model", 64, updates=200, start=25, clip=10.0),
                Practice("actor_critic", 64, updates=200, start=50, weight_decay=0.0, clip=10.0),
            ),
            collect=PlayTurns("iris-train", steps=200, until=500, epsilon=0.01),
            check=CheckPlay(every=5, episodes=16, temperature=0.5, protocol="iris"),
            loop=LoopConfig(save_seconds=600.0),
        ),
        evaluate=EvaluateConfig(
            protocol="iris", planner=ACTOR, episodes=100, epsilon=0.0, search=SearchConfig(temperature=0.5)
        ),
    )


def iris_offline() -> Recipe:
    """IRIS's networks for grey 84x84, from the replay that JOWA learns from and nothing else: no step is played."""
    online, data = iris(), jowa_40m()
    learn = online.learn
    return online.but(
        name="iris_offline",
        source=data.source,
        agents=data.agents,
        fetch=data.fetch,
        downsample=data.downsample,
        learn=replace(
            learn,
            networks=replace(learn.networks, frame=(84, 84, 1)),
            uses=tuple(replace(use, start=0) for use in learn.uses),
            collect=PlayTurns(steps=0),
            check=replace(learn.check, protocol="jowa"),
        ),
        evaluate=replace(online.evaluate, protocol="jowa", episodes=16),
    )


def iris_mini() -> Recipe:
    """Freeway from trajectories of the demo's kind, small networks, within the hour on a processor; no step is played.

    Its tokenizer is the demo's, but for 48x48 pixels, and weighs what moves: all depends on one small chicken.
    BENCHMARKS.md, "Learn something real", has its returns and what it costs.
    """
    offline, data = iris_offline(), demo()
    learn, seeing = offline.learn, data.pretrain.networks
    assert isinstance(seeing, JowaAgentConfig)
    networks = IrisConfig(
        frame=(84, 84, 1),
        tokenizer=replace(seeing.tokenizer, patch_stem=4, resolution=48),
        world_model=WorldModelConfig(tokens_per_frame=36, max_steps=8, layers=2, width=128, dropout=0.0),
        actor_critic=ActorCriticConfig(
            channels=(16, 16, 32, 32), hidden=128, resolution=48, horizon=15, burn_in=4, gamma=0.97, entropy=0.001
        ),
        weights=TokenizerWeights(lpips=0.0, commitment=0.25, motion_gain=1.0),
    )
    return offline.but(
        name="iris_mini",
        games=("Freeway",),
        source="collected",
        agents=(1, 2),
        collect=data.collect,
        fetch=data.fetch,
        downsample=data.downsample,
        learn=replace(
            learn,
            networks=networks,
            rounds=1,
            sampling="steps",
            uses=(
                Practice("tokenizer", 64, updates=3000, lr=2e-3, weight_decay=0.0, clip=10.0),
                Practice("world_model", 16, updates=2500, lr=1e-3, clip=10.0),
                Practice("actor_critic", 32, updates=300, lr=1e-3, weight_decay=0.0, clip=10.0),
            ),
            check=replace(learn.check, every=0, protocol="sticky"),
            loop=LoopConfig(),
        ),
        evaluate=replace(offline.evaluate, protocol="sticky"),
    )


def networks(recipe: Recipe) -> IrisConfig:
    """Those that a recipe of this file learns."""
    found = recipe.of(LearnConfig).networks
    assert isinstance(found, IrisConfig)
    return found


def released(given: IrisConfig, shapes: Mapping[str, tuple[int, ...]], game: str) -> IrisConfig:
    """The networks of a checkpoint of one game: `given` with the sizes that its names and shapes tell.

    Raises ValueError as `models.iris.sizes.sized`, UsageError as `of_game`.
    """
    return of_game(sized(given, shapes), game)
