"""IRIS's recipes: an agent that plays 100,000 steps, learns a world model of them, and practises in it alone.

`iris` is the paper's, under the rules of its own code; a game is an artefact of its own, so that `--games` makes 26 of
them, and `--seed` another run of each.
Run: `worldline experiment new pong-iris --recipe iris --games Pong`, then `worldline materialize pong-iris`.
Source: arXiv 2209.00588, section 3 and appendix A, with the numbers of its code where the paper is silent.
"""

from models.iris.config import IrisConfig
from pipelines.evaluation.player_settings import ACTOR, SearchConfig
from pipelines.graph.recipe import Recipe
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import CheckPlay, LearnConfig, PlayTurns
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
