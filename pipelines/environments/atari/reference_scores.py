"""Reference scores (random, human, DQN), published results, and scores normalised by them.

Data: scores.json. 46 games have references from the authors' release of JOWA (arXiv 2410.00564, corrected code), whose
15 training games have the published results of JOWA and its baselines; 11 more have a random and a human score, of Mnih
et al. 2015 (Nature 518) and Wang et al. 2016 (arXiv 1511.06581). The other three, and Pooyan, no human played there.
published.json holds aggregates that others printed, of Atari 100k too, and the raw scores that they released with them.
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

Score = Literal["random", "human", "dqn"]


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


@dataclass(frozen=True)
class Claim:
    """Aggregates over games that somebody printed of an agent, and the raw scores that were released, as far as any.

    `figures` are as printed, {"human": {"mean": "1.267"}}: their digits say how exact they are. `scores` are raw points
    by game and run; one of them is of a training seed, of an episode, or a game's mean (`unit`).
    """

    agent: str
    benchmark: str
    protocol: str
    source: str
    figures: Mapping[Against, Mapping[str, str]]
    unit: Literal["seed", "episode", "game"]
    scores: Mapping[str, Mapping[str, tuple[float, ...]]]
    scores_from: str
    note: str


@functools.cache
def _data(name: str = "scores.json") -> dict[str, Any]:
    return json.loads(resources.files("pipelines.environments.atari").joinpath(name).read_text())


def reference(game: str) -> Reference | None:
    """The game's reference scores; None for a game without, as for 3 of Atari's 60.

    Raises UsageError for an unknown game.
    """
    found = _data()["reference"].get(check_game(game))
    return Reference(found["random"], found["human"], found["dqn"]) if found else None


def origin(game: str, score: Score) -> tuple[str, str]:
    """(source, protocol) of one of a game's reference scores; ("", "") where it has none.

    Raises UsageError for an unknown game.
    """
    known = reference(game)
    if known is None or getattr(known, score) is None:
        return "", ""
    told = [row for row in _data("published.json")["references"] if row["score"] == score]
    named = [row for row in told if game in row["games"]] or [row for row in told if not row["games"]]
    return named[0]["source"], named[0]["protocol"]


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


def claims(benchmark: str = "") -> list[Claim]:
    """Every claim of published.json, or those of one benchmark, such as 'Atari 100k'.

    Raises UsageError for an unknown benchmark.
    """
    found = _data("published.json")
    if benchmark and benchmark not in found["benchmarks"]:
        raise unknown("benchmark", benchmark, found["benchmarks"], "pipelines/environments/atari/published.json")
    return [
        Claim(
            agent=row["agent"],
            benchmark=row["benchmark"],
            protocol=found["benchmarks"][row["benchmark"]],
            source=row["source"],
            figures=row["published"],
            unit=row["unit"],
            scores=_raw(row["scores"], row["unit"]) if "scores" in row else {},
            scores_from=row.get("scores_from", ""),
            note=row.get("note", ""),
        )
        for row in found["rows"]
        if benchmark in ("", row["benchmark"])
    ]


def _raw(name: str, unit: str) -> dict[str, dict[str, tuple[float, ...]]]:
    """Raw scores by game and run, of published.json or of a method of scores.json."""
    released = _data("published.json")["scores"]
    if name in released:
        return {
            game: {f"{unit} {place}": (value,) for place, value in enumerate(values, 1)}
            for game, values in released[name].items()
        }
    (method,) = (found for found in publications() if found.method == name)
    return {game: {name: method.returns.get(game, (mean,))} for game, mean in method.means.items()}


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
