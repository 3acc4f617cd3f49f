"""Steps as (epoch, position) and back, so that a run may be resumed from either.

An epoch ends when the source that takes longest has shown each of its segments once more; that may fall inside a
batch, which then belongs to the epoch of its first sample. Position counts the batches since the epoch's first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipelines.replay.mixture import Mixture


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
