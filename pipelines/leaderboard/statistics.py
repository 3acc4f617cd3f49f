"""How sure a result is: aggregates over games with 95% intervals, comparisons and performance profiles.

A game's scores are filed by run, which is one training of the agent. Every interval comes from one stratified
bootstrap over runs and episodes: a resample draws, for each game, as many runs as there are, with replacement, and then
within each drawn run as many episodes as it played, with replacement. With one run this resamples the episodes within
each game; with one score a run it is the bootstrap of rliable (Agarwal et al. 2021, arXiv 2108.13264, section 4.1), in
which a run is the unit. Games with the same runs share their draws of runs: there one network plays all of them, so its
luck in training is common to all.

Point values follow the same paper, section 4.3: `iqm` and `optimality_gap` are over all runs of all games, `median` and
`above` over each game's mean. Where games differ in their numbers of runs, each game's runs are averaged first. With
one run these are the aggregates of mean returns that JOWA publishes. Runs weigh equally, however many their episodes.

Percentile intervals of few draws are too narrow. Measured coverage, normal scores, of one run: 48% with 2 episodes, 89%
with 8, 92% with 16. Of runs whose means vary by 1 and episodes by 2 (standard deviations), 16 episodes each, one game
or 15 games of one network: 62% or 17% with 1 run, 88% or 79% with 3, 90% or 83% with 5, 94% or 90% with 10.

Shape letters: G games, K runs of a game, E episodes of a run (may differ), N episodes of all runs, R resamples,
X thresholds.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000

COVERAGE = 0.95

LEAST = 8  # episodes, below which intervals are far too sure of themselves to judge by: of 2 they hold half the time

Runs = Mapping[str, Sequence[float]]  # run -> score of each episode

Scores = Mapping[str, Runs]  # game -> its runs, normalised scores

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # (R, G, K) scores of runs -> (R,)


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


def mean(scores_RGK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over games."""
    return scores_RGK.mean(axis=(1, 2))


def median(scores_RGK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over games."""
    return np.median(scores_RGK.mean(axis=2), axis=1)


def interquartile_mean(scores_RGK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the runs of all games without the lowest and the highest quarter of them (rounded down)."""
    flat_RM = np.sort(scores_RGK.reshape(len(scores_RGK), -1), axis=1)
    cut = flat_RM.shape[1] // 4
    return flat_RM[:, cut : flat_RM.shape[1] - cut].mean(axis=1)


def optimality_gap(scores_RGK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the runs of all games of how far the score falls short of 1; what is above 1 earns nothing."""
    return np.maximum(0.0, 1.0 - scores_RGK).mean(axis=(1, 2))


def games_above(scores_RGK: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many games score above 1."""
    return (scores_RGK.mean(axis=2) > 1.0).sum(axis=1).astype(np.float64)


STATISTICS: dict[str, Statistic] = {
    "mean": mean,
    "median": median,
    "iqm": interquartile_mean,
    "optimality_gap": optimality_gap,
    "above": games_above,
}


def intervals(scores: Scores, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """Every aggregate of STATISTICS with its stratified bootstrap interval.

    Raises ValueError for no game, a game without runs, a run without episodes, or a score that is not finite.
    """
    drawn_RGK = _stack([_Draws(game, scores[game], resamples, seed).means() for game in _games(scores)])
    return {name: _interval(value, STATISTICS[name](drawn_RGK)) for name, value in points(scores).items()}


def points(scores: Scores) -> dict[str, float]:
    """Every aggregate of STATISTICS without an interval. Raises ValueError as `intervals`."""
    point_1GK = _stack([_means(game, scores[game])[None] for game in _games(scores)])
    return {name: float(statistic(point_1GK)[0]) for name, statistic in STATISTICS.items()}


def run_interval(runs: Runs, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of one game's runs with its bootstrap interval. Raises ValueError as `intervals`."""
    return intervals({"": runs}, resamples, seed)["mean"]


def mean_interval(episodes: Sequence[float], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of one run's episodes with its bootstrap interval. Raises ValueError as `intervals`."""
    return run_interval({"": episodes}, resamples, seed)


def ranks(found: Sequence[Interval]) -> list[tuple[int, int]]:
    """Best and worst rank of each value that the intervals allow, 1 = highest: overlapping ones share their ranks."""
    return [
        (
            1 + sum(other.low > mine.high for other in found),
            len(found) - sum(other.high < mine.low for other in found),
        )
        for mine in found
    ]


def probability_of_improvement(
    ours: Scores, theirs: Scores, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Interval, int]:
    """P(an episode of ours scores above one of theirs), ties half, averaged over the games both played; their number.

    Raises ValueError where they share no game, and as `intervals`.
    """
    games = [game for game in _games(ours) if game in theirs]
    if not games:
        raise ValueError("No game in common: an improvement can only be told on the same games")
    point, drawn = [], []
    for game in games:
        mine, other = _Draws(game, ours[game], resamples, seed), _Draws(game, theirs[game], resamples, seed + 1)
        mine_N, other_N = mine.values_N[:, None], other.values_N[None, :]
        # How much each pair weighs in a resample turns R comparisons of N x N' into two small products.
        wins = (mine_N > other_N) + 0.5 * (mine_N == other_N)  # (N, N')
        point.append(mine.share_N @ wins @ other.share_N)
        drawn.append(((mine.shares() @ wins) * other.shares()).sum(axis=1))
    return _interval(float(np.mean(point)), np.mean(drawn, axis=0)), len(games)


def performance_profile(
    scores: Scores, thresholds: Sequence[float], resamples: int = RESAMPLES, seed: int = 0
) -> Profile:
    """Share of episodes above each threshold, games and runs weighing equally. Raises ValueError as `intervals`."""
    tau_X = np.asarray(thresholds, np.float64)
    games = _games(scores)
    point_X, drawn_RX = np.zeros(len(tau_X)), np.zeros((resamples, len(tau_X)))
    for game in games:
        draws = _Draws(game, scores[game], resamples, seed)
        above_NX = (draws.values_N[:, None] > tau_X).astype(np.float64)
        point_X += draws.share_N @ above_NX / len(games)
        drawn_RX += draws.shares() @ above_NX / len(games)
    low, high = np.quantile(drawn_RX, _tails(), axis=0)
    return Profile(tau_X, point_X, low, high)


class _Draws:
    """The resamples of one game: which runs and which of their episodes each holds.

    `values_N` are the episodes of all runs, `share_N` how much of the game each is; shares sum to 1.
    """

    def __init__(self, game: str, runs: Runs, resamples: int, seed: int) -> None:
        found = _checked(game, runs)
        sizes_K = np.array([len(run) for run in found])
        first_K = np.cumsum(sizes_K) - sizes_K
        self.values_N = np.concatenate(found)
        self.share_N = np.repeat(1.0 / (len(found) * sizes_K), sizes_K)
        # Games with the same runs draw the same ones; a game's episodes do not depend on which other games there are.
        run_RK = _generator(seed, "\n".join(sorted(runs))).integers(len(found), size=(resamples, len(found)))
        self._size_RK1 = sizes_K[run_RK][..., None]
        shape = (resamples, len(found), int(sizes_K.max()))
        self._counts_RKE = np.arange(shape[2]) < self._size_RK1
        drawn_RKE = _generator(seed, game).integers(np.broadcast_to(self._size_RK1, shape))
        self._places_RKE = first_K[run_RK][..., None] + drawn_RKE

    def means(self) -> NDArray[np.float64]:
        """(R, K) mean of every drawn run."""
        drawn_RKE = np.where(self._counts_RKE, self.values_N[self._places_RKE], 0.0)
        return np.asarray(drawn_RKE.sum(axis=2) / self._size_RK1[..., 0], np.float64)

    def shares(self) -> NDArray[np.float64]:
        """(R, N) how much of each resample every episode is; rows sum to 1."""
        resamples, runs, _ = self._places_RKE.shape
        flat = self._places_RKE + (np.arange(resamples) * len(self.values_N))[:, None, None]
        share = np.broadcast_to(1.0 / (runs * self._size_RK1), flat.shape)
        counted = np.bincount(
            flat[self._counts_RKE], weights=share[self._counts_RKE], minlength=resamples * len(self.values_N)
        )
        return np.asarray(counted, np.float64).reshape(resamples, len(self.values_N))


def _games(scores: Scores) -> list[str]:
    if not scores:
        raise ValueError("No game to sum up: give at least one")
    return sorted(scores)


def _checked(game: str, runs: Runs) -> list[NDArray[np.float64]]:
    """Every run's scores, in the order of the runs' names."""
    found = [np.asarray(runs[run], np.float64) for run in sorted(runs)]
    if not found or any(run.ndim != 1 or not len(run) or not np.isfinite(run).all() for run in found):
        raise ValueError(f"{game or 'The game'} has scores {runs}: give at least one episode a run, all of them finite")
    return found


def _means(game: str, runs: Runs) -> NDArray[np.float64]:
    """(K,) mean of each run."""
    return np.array([run.mean() for run in _checked(game, runs)])


def _stack(games_RK: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(R, G, K); K is 1 where the games differ in it."""
    if len({scores_RK.shape[1] for scores_RK in games_RK}) > 1:
        games_RK = [scores_RK.mean(axis=1, keepdims=True) for scores_RK in games_RK]
    return np.stack(games_RK, axis=1)


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _interval(value: float, drawn_R: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn_R, _tails())
    return Interval(value, float(low), float(high))


def _tails() -> tuple[float, float]:
    return (1 - COVERAGE) / 2, (1 + COVERAGE) / 2
