"""What episodes reached besides points: success rates, and the score that sums them up, with their intervals.

The success rate of an achievement is the share of episodes that reached it at least once. Crafter's score (Hafner 2021,
arXiv 2109.06780) is the geometric mean of the rates in percent, each raised by one so that a single zero
does not make it zero: exp(mean(log(1 + rate))) - 1. Over several training runs both are means over the runs, as there.
Of a single achievement, such as a task's success, that mean is its rate, and is called so.
Intervals are 95% of a bootstrap over runs and episodes, as of all returns (`leaderboard.statistics`): a resample draws
as many runs as there are, with replacement, and within each as many episodes as it played.
Letters: E episodes of a run, K achievements, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.registry import achievements
from pipelines.environments.rollout import Episode

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2_000
COLUMN = "achievement_"  # of a table of episodes: how often each was reached
SCORE, RATE = "crafter_score", "success_rate"  # what the score is called, and where there is a single achievement


class Bounded(NamedTuple):
    """A value with the interval that covers it with 95%; without one where a single episode tells nothing."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Reached:
    """What the episodes of one training run gave: `returns` (E,), and `reached` (E, K) bool."""

    returns: NDArray[np.float64]
    reached: NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """Mean return, score in percent and success rates in percent by achievement, of all runs."""

    returns: Bounded
    score: Bounded
    rates: Mapping[str, Bounded]

    def to_json(self) -> dict[str, Any]:
        """As metrics of an artefact keep it."""
        name = SCORE if len(self.rates) > 1 else RATE
        return {name: _plain(self.score), "achievements": {name: _plain(rate) for name, rate in self.rates.items()}}


def crafter_score(rates_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(mean(log(1 + rate))) - 1 over the last axis; rates and score are percents, 0 to 100."""
    return np.exp(np.log1p(rates_K).mean(axis=-1)) - 1


def measured(runs: Sequence[Reached], names: Sequence[str], seed: int = 0) -> Measured:
    """All figures of a game with achievements `names` (K). Raises ValueError for no run and for one of no episode."""
    if not runs or not all(len(run.returns) for run in runs):
        raise ValueError(f"{len(runs)} runs were given, of at least one episode each: there is nothing to measure")
    value = np.mean([_figures(run, np.ones((1, len(run.returns))))[0] for run in runs], axis=0)
    low, high = _bounds(runs, seed) if sum(len(run.returns) for run in runs) > 1 else (None, None)

    def bounded(place: int) -> Bounded:
        if low is None or high is None:
            return Bounded(float(value[place]))
        return Bounded(float(value[place]), float(low[place]), float(high[place]))

    return Measured(bounded(0), bounded(1), {name: bounded(2 + place) for place, name in enumerate(names)})


def of_episodes(episodes: Sequence[Episode]) -> Measured | None:
    """Of episodes of one run; None where any tells of no achievement."""
    names = tuple(episodes[0].achievements)
    if not names or any(tuple(each.achievements) != names for each in episodes):
        return None
    returns = np.array([each.score for each in episodes])
    return measured([Reached(returns, np.array([[*each.achievements.values()] for each in episodes]) > 0)], names)


def of_table(game: str, table: "pd.DataFrame", run: str = "") -> Measured | None:
    """Of a table of episodes with columns `return` and COLUMN + name, runs told apart by column `run`.

    None where the game has no achievements, or the table does not tell of them for every episode.
    """
    names = achievements(game)
    columns = [COLUMN + name for name in names]
    if not names or table.empty or not set(columns) <= set(table) or table[columns].isna().any(axis=None):
        return None
    parts = [part for _, part in table.groupby(run)] if run else [table]
    return measured(
        [Reached(part["return"].to_numpy(np.float64), part[columns].to_numpy() > 0) for part in parts], names
    )


def _figures(run: Reached, weights_RE: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, 2 + K): mean return, score and success rates of a run whose episodes count so many times."""
    shares_RE = weights_RE / len(run.returns)
    rates_RK = 100 * shares_RE @ run.reached.astype(np.float64)
    score_R = crafter_score(rates_RK.clip(0, 100))
    return np.column_stack([shares_RE @ run.returns, score_R, rates_RK])


def _bounds(runs: Sequence[Reached], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    drawn = []
    for run in runs:  # every run's episodes, drawn for each place that the run may be drawn into
        count = len(run.returns)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=(len(runs), RESAMPLES)).astype(np.float64)
        drawn.append(np.stack([_figures(run, weights_RE) for weights_RE in weights]))
    each = np.stack(drawn)  # (run, place, R, 2 + K)
    places, resamples = np.arange(len(runs))[:, None], np.arange(RESAMPLES)[None]
    chosen = rng.integers(len(runs), size=(len(runs), RESAMPLES))
    found = each[chosen, places, resamples].mean(axis=0)
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    return low, high


def _plain(found: Bounded) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in found._asdict().items()}
