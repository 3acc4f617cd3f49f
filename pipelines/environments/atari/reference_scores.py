"""Reference scores (random, human, DQN), published results, and scores normalised by them.

Data: scores.json. 46 games have references from the authors' release of JOWA (arXiv 2410.00564, corrected code), whose
15 training games have the published results of JOWA and its baselines; 11 more have a random and a human score, of Mnih
et al. 2015 (Nature 518) and Wang et al. 2016 (arXiv 1511.06581). The other three, and Pooyan, no human played there.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np

from pipelines.environments.registry import check_game
from pipelines.errors import WorldlineError, unknown

Against = Literal["human", "dqn"]


@dataclass(frozen=True)
class Reference:
    """Mean returns of one game: of random play, of a human, of DQN. None where nobody published one."""

    random: float
    human: float | None
    dqn: float | None


@dataclass(frozen=True)
class Published:
    """One published row: mean return per game, and every episode's return where the authors released them (else {}).

    `episodes` counts rollouts a game. Nobody recorded which ROMs were played.
    """

    method: str
    agent: str
    planner: str
    source: str
    protocol: str
    episodes: int
    means: Mapping[str, float]
    returns: Mapping[str, tuple[float, ...]]


@functools.cache
def _data() -> dict[str, Any]:
    return json.loads(resources.files("pipelines.environments.atari").joinpath("scores.json").read_text())


def reference(game: str) -> Reference | None:
    """The game's reference scores; None for a game without, as for 3 of Atari's 60.

    Raises UsageError for an unknown game.
    """
    found = _data()["reference"].get(check_game(game))
    return Reference(found["random"], found["human"], found["dqn"]) if found else None


def published(method: str) -> dict[str, float]:
    """Mean return per game that was published for a method, such as 'JOWA_150M_with_planning'.

    Raises UsageError for an unknown method.
    """
    methods = _data()["published"]
    if method not in methods:
        raise unknown("method", method, methods, "pipelines/environments/atari/scores.json lists them")
    return dict(methods[method])


def publications() -> list[Published]:
    """Every published row of scores.json: JOWA in three sizes with and without planning, and its seven baselines."""
    return [
        Published(
            method=name,
            agent=about["agent"],
            planner=about["planner"],
            source=about["source"],
            protocol=about["protocol"],
            episodes=about["episodes"],
            means=published(name),
            returns={
                game: tuple(entry["returns"])
                for game, entry in _data()["rollouts"].get(about.get("rollouts"), {}).items()
            },
        )
        for name, about in _data()["methods"].items()
    ]


def normalised(game: str, score: float, against: Against = "human") -> float:
    """(score - zero) / |reference - random|; JOWA's formula (arXiv 2410.00564, evaluation).

    The zero is the smaller of the two reference scores: random play, except where a reference is below it, so that
    more points always mean a higher value. Raises WorldlineError for a game without that reference.
    """
    known = reference(game)
    top = getattr(known, against) if known else None
    if known is None or top is None:
        raise WorldlineError(
            f"{game} has no published {against} score: leave it out of normalised scores, or add it to scores.json"
        )
    return (score - min(known.random, top)) / abs(top - known.random)


def iqm(values: Sequence[float]) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter (rounded down) of the values.

    Source: Agarwal et al. 2021 (arXiv 2108.13264). Raises ValueError for no values.
    """
    if len(values) == 0:
        raise ValueError("The interquartile mean of no scores is undefined: give at least one")
    cut = len(values) // 4
    return float(np.mean(np.sort(np.asarray(values, np.float64))[cut : len(values) - cut]))
