"""Which source each sample comes from: a fixed cycle that keeps the games' shares exact, at any step, in any order."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

CYCLE = 10_000  # samples after which unequal shares repeat


class Mixture:
    """`weights` are the shares of the samples, one for each source; None makes them equal.

    Raises ValueError for impossible weights.
    """

    def __init__(self, weights: Sequence[float] | None, sources: int) -> None:
        self._cycle = cycle([1.0] * sources if weights is None else weights, sources)
        self._rank = np.zeros(len(self._cycle), np.int64)  # how often this source came up earlier in the cycle
        for source in range(sources):
            mine = self._cycle == source
            self._rank[mine] = np.arange(mine.sum())
        self._per_cycle = np.bincount(self._cycle, minlength=sources)

    def samples(self, step: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each of the `count` samples of a step: its source, and how many samples that source gave before it.

        Both (count,) int64.
        """
        lap, place = np.divmod(step * count + np.arange(count), len(self._cycle))
        slots = self._cycle[place]
        return slots, lap * self._per_cycle[slots] + self._rank[place]

    def share(self, slot: int) -> Fraction:
        """The part of all samples that a source gives."""
        return Fraction(int(self._per_cycle[slot]), len(self._cycle))


def cycle(weights: Sequence[float], sources: int) -> NDArray[np.int64]:
    """The source of each sample of one cycle, spread as evenly as shares allow (largest debt first).

    Raises ValueError unless there is one positive weight a source, each worth a sample of CYCLE.
    """
    shares = np.asarray(weights, np.float64)
    if len(shares) != sources or not np.isfinite(shares).all() or (shares <= 0).any():
        raise ValueError(f"Weights {list(weights)} for {sources} games: one positive number each")
    if (shares == shares[0]).all():
        return np.arange(sources)
    shares /= shares.sum()
    if shares.min() * CYCLE < 1:
        raise ValueError(f"Weights {list(weights)} give a game less than one sample in {CYCLE:,}: raise the smallest")
    found, debt = np.empty(CYCLE, np.int64), np.zeros(sources)
    for place in range(CYCLE):
        debt += shares
        found[place] = np.argmax(debt)
        debt[found[place]] -= 1
    return found
