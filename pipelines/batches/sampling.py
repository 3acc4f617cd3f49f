"""Which source each sample of a run comes from, and steps as (epoch, position) and back.

A fixed cycle keeps the games' shares exact, at any step, in any order. An epoch ends when the source that takes longest
has shown each of its segments once more; that may fall inside a batch, which then belongs to the epoch of its first
sample. Position counts the batches since the epoch's first. A run may be resumed from either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Epochs:
    """`steps`: how many batches an epoch takes, not always a whole number. Raises ValueError unless positive."""

    steps: Fraction

    def __post_init__(self) -> None:
        if self.steps <= 0:
            raise ValueError(f"An epoch of {self.steps} steps is impossible: it must be more than 0")

    @classmethod
    def of(cls, segments: Sequence[int], mixture: Mixture, batch_size: int) -> "Epochs":
        """For sources with so many segments each, mixed so."""
        return cls(max(Fraction(count) / mixture.share(slot) / batch_size for slot, count in enumerate(segments)))

    def place(self, step: int) -> tuple[int, int]:
        """(epoch, position) of a step, all counted from 0. Raises ValueError for a negative step."""
        if step < 0:
            raise ValueError(f"Step {step} is before the first: steps are counted from 0")
        epoch = math.floor(step / self.steps)
        return epoch, step - self._first(epoch)

    def step(self, epoch: int, position: int) -> int:
        """The step at that place. Raises ValueError when the epoch has no such position."""
        first, beyond = self._first(epoch), self._first(epoch + 1)
        if epoch < 0 or not 0 <= position < beyond - first:
            raise ValueError(f"Epoch {epoch} has {max(beyond - first, 0)} batches, position {position} is none of them")
        return first + position

    def _first(self, epoch: int) -> int:
        return math.ceil(epoch * self.steps)
