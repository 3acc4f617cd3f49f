"""Simulus's recipe for Atari 100k: REM's rounds with a curious actor, prioritised replay and values as classes.

Run: `worldline experiment new pong-simulus --recipe simulus --games Pong`, then `worldline materialize pong-simulus`.
Source: arXiv 2502.11537, with the numbers of its code since 2026 ("Simulus-A": attention and FSQ). Of the original's
faults three are mended here and can be had back: `learn.actor_critic.aligned=false` begins imagination a frame behind
the actor, `learn.actor_critic.burn_in_actions=false` burns in without actions, and
`learn.world_model.last_rewards=false` learns no reward or end of a segment's last block. LPIPS weights are named by
`learn.lpips_file`, or left out.
"""

import math
from collections.abc import Mapping
from typing import Any

from models.simulus.config import SimulusConfig
from models.simulus.sizes import fsq_levels, sized
from pipelines.batches.memory import Draws
from pipelines.evaluation.player_settings import ACTOR, SearchConfig
from pipelines.graph.recipe import Recipe
from pipelines.recipes.released import of_game
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Practice


def simulus() -> Recipe:
    """Simulus on Atari 100k: 600 rounds of 200 steps of play (500 of them), curious while it plays."""
    return Recipe("simulus", games=("Pong",)).but(
        learn=LearnConfig(
            networks=SimulusConfig(),
            rounds=600,
            uses=(
                Practice("tokenizer", 128, updates=200, start=5, weight_decay=0.01, clip=10.0),
                Practice(
                    "world_model",
                    32,
                    updates=200,
                    lr=2e-4,
                    start=25,
                    weight_decay=0.05,
                    clip=3.0,
                    sampling="losses",
                ),
                Practice("actor_critic", 128, updates=80, lr=2e-4, start=50, weight_decay=0.01, clip=3.0),
            ),
            collect=PlayTurns("iris-train", steps=200, until=500, epsilon=0.01),
            check=CheckPlay(every=20, episodes=16, temperature=0.5, protocol="iris"),
            loop=LoopConfig(save_seconds=600.0),
            sampling="steps",
            draws=Draws(share=0.3, fresh=10.0, up=True),
        ),
        evaluate=EvaluateConfig(
            protocol="iris", planner=ACTOR, episodes=100, epsilon=0.0, search=SearchConfig(temperature=0.5)
        ),
    )


def told(weights: Mapping[str, Any]) -> tuple[str, ...]:
    """Changes FIELD=VALUE that a checkpoint's numbers tell, where shapes do not: its FSQ's levels."""
    if not (levels := fsq_levels(weights)):
        return ()
    return "tokenizer.fsq_levels=" + ",".join(map(str, levels)), f"tokenizer.vocab_size={math.prod(levels)}"


def released(given: SimulusConfig, shapes: Mapping[str, tuple[int, ...]], game: str) -> SimulusConfig:
    """The networks of a checkpoint of one game: `given` with the sizes that its names and shapes tell.

    Raises ValueError as `models.simulus.sizes.sized`, UsageError as `of_game`.
    """
    return of_game(sized(given, shapes), game)
