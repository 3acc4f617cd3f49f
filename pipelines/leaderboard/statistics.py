"""How sure a result is: aggregates over games with 95% intervals, comparisons and performance profiles.

Games are strata: each resample draws as many episodes per game as were played, with replacement, so that a game with
many episodes weighs no more than one with few. Point values are of the mean return per game, as JOWA publishes them.
Source: Agarwal et al. 2021 (arXiv 2108.13264), sections 4 and 5.
Cost: 0.01 s for 2,000 resamples of 15 games with 16 episodes (one core).

Shape letters: G games, E episodes of a game (may differ), R resamples, X thresholds.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
COVERAGE = 0.95

Scores = Mapping[str, Sequence[float]]  # game -> normalised score of each episode
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # (R, G) means -> (R,)


@dataclass(frozen=True)
class Interval:
    """A value with the interval that covers it with 95% in the bootstrap."""

    value: float
    low: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """Whether the two intervals share a point: then the data does not tell the values apart."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Profile:
    """Share of episodes that score above each threshold, games weighing equally, with its 95% band. All (X,)."""

    thresholds: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def mean(means_RG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over games."""
    return means_RG.mean(axis=1)


def median(means_RG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over games."""
    return np.median(means_RG, axis=1)


def interquartile_mean(means_RG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over games without the lowest and the highest quarter of them (rounded down)."""
    cut = means_RG.shape[1] // 4
    return np.sort(means_RG, axis=1)[:, cut : means_RG.shape[1] - cut].mean(axis=1)


def optimality_gap(means_RG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over games of how far the score falls short of 1; what is above 1 earns nothing."""
    return np.maximum(0.0, 1.0 - means_RG).mean(axis=1)


def games_above(means_RG: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many games score above 1."""
    return (means_RG > 1.0).sum(axis=1).astype(np.float64)


STATISTICS: dict[str, Statistic] = {
    "mean": mean,
    "median": median,
    "iqm": interquartile_mean,
    "optimality_gap": optimality_gap,
    "above": games_above,
}


def intervals(scores: Scores, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """Every aggregate of STATISTICS with its stratified bootstrap interval.

    Raises ValueError for no game, a game without episodes, or a score that is not finite.
    """
    drawn_RG = np.stack(
        [_resample(game, scores[game], resamples, seed).mean(axis=1) for game in _games(scores)], axis=1
    )
    return {name: _interval(value, STATISTICS[name](drawn_RG)) for name, value in points(scores).items()}


def mean_interval(episodes: Sequence[float], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of one game's episodes with its bootstrap interval. Raises ValueError as `intervals`."""
    return intervals({"": episodes}, resamples, seed)["mean"]


def ranks(found: Sequence[Interval]) -> list[tuple[int, int]]:
    """Best and worst rank of each value that the intervals allow, 1 = highest: overlapping ones share their ranks."""
    return [
        (
            1 + sum(other.low > mine.high for other in found),
            len(found) - sum(other.high < mine.low for other in found),
        )
        for mine in found
    ]


def points(scores: Scores) -> dict[str, float]:
    """Every aggregate of STATISTICS without an interval. Raises ValueError as `intervals`."""
    point_1G = np.array([[_checked(game, scores[game]).mean() for game in _games(scores)]])
    return {name: float(statistic(point_1G)[0]) for name, statistic in STATISTICS.items()}


def probability_of_improvement(
    ours: Scores, theirs: Scores, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Interval, int]:
    """P(an episode of ours scores above one of theirs), ties half, averaged over the games both played; their number.

    Raises ValueError where they share no game.
    """
    games = [game for game in _games(ours) if game in theirs]
    if not games:
        raise ValueError("No game in common: an improvement can only be told on the same games")
    point, drawn = [], []
    for game in games:
        mine, other = np.asarray(ours[game], np.float64), np.asarray(theirs[game], np.float64)
        # Counting how often each pair is drawn turns R comparisons of E x E into two small products.
        wins = (mine[:, None] > other[None, :]) + 0.5 * (mine[:, None] == other[None, :])  # (E, E')
        point.append(wins.mean())
        mine_RE = _shares(game, len(mine), resamples, seed)
        other_RE = _shares(game, len(other), resamples, seed + 1)
        drawn.append(((mine_RE @ wins) * other_RE).sum(axis=1))
    return _interval(float(np.mean(point)), np.mean(drawn, axis=0)), len(games)


def performance_profile(
    scores: Scores, thresholds: Sequence[float], resamples: int = RESAMPLES, seed: int = 0
) -> Profile:
    """Share of episodes above each threshold. Raises ValueError as `intervals`."""
    tau_X = np.asarray(thresholds, np.float64)
    games = _games(scores)
    point_X, drawn_RX = np.zeros(len(tau_X)), np.zeros((resamples, len(tau_X)))
    for game in games:
        above_EX = (_checked(game, scores[game])[:, None] > tau_X).astype(np.float64)
        point_X += above_EX.mean(axis=0) / len(games)
        drawn_RX += _shares(game, len(above_EX), resamples, seed) @ above_EX / len(games)
    low, high = np.quantile(drawn_RX, _tails(), axis=0)
    return Profile(tau_X, point_X, low, high)


def _games(scores: Scores) -> list[str]:
    if not scores:
        raise ValueError("No game to sum up: give at least one")
    return sorted(scores)


def _checked(game: str, episodes: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(episodes, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"{game or 'The game'} has scores {episodes}: give at least one episode, all of them finite")
    return values


def _draws(game: str, episodes: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """(R, E) episode numbers; a game's draws do not depend on which other games there are."""
    return np.random.default_rng([seed, zlib.crc32(game.encode())]).integers(episodes, size=(resamples, episodes))


def _resample(game: str, episodes: Sequence[float], resamples: int, seed: int) -> NDArray[np.float64]:
    values = _checked(game, episodes)
    return values[_draws(game, len(values), resamples, seed)]


def _shares(game: str, episodes: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """(R, E) how much of each resample every episode is; rows sum to 1."""
    draws = _draws(game, episodes, resamples, seed)
    flat = draws + np.arange(resamples)[:, None] * episodes
    counts = np.bincount(flat.ravel(), minlength=resamples * episodes)
    return counts.reshape(resamples, episodes) / episodes


def _interval(value: float, drawn_R: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn_R, _tails())
    return Interval(value, float(low), float(high))


def _tails() -> tuple[float, float]:
    return (1 - COVERAGE) / 2, (1 + COVERAGE) / 2
