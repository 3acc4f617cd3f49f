"""One log of a replay ring as read: the small arrays, the count of rows ever added, the rows declared invalid.

A ring of N rows with add_count a holds the add numbers max(0, a - N) .. a - 1; number n lies in row n % N. That is
all that a snapshot means, whenever it was taken; what the numbers claim is tested against the rows in order.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]  # rows start .. stop-1 of one ring


def spans(first: int, stop: int, capacity: int) -> list[Span]:
    """Where add numbers first .. stop-1 lie, in their order: one span per lap that they touch. `first` may be -1."""
    found = []
    while first < stop:
        row = first % capacity
        count = min(capacity - row, stop - first)
        found.append((row, row + count))
        first += count
    return found


@dataclass(frozen=True)
class RingLog:
    """The small arrays of one log file number. actions, rewards, terminals: (N,); invalid_range: (stack size + 1,)."""

    checkpoint: int
    add_count: int
    actions: NDArray[np.integer]
    rewards: NDArray[np.floating]
    terminals: NDArray[np.integer]
    invalid_range: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def capacity(self) -> int:
        """N, rows of the ring."""
        return len(self.actions)

    @property
    def cursor(self) -> int:
        """The row that would be written next."""
        return self.add_count % self.capacity

    @property
    def oldest(self) -> int:
        """The smallest add number that is still in the ring."""
        return max(0, self.add_count - self.capacity)

    @property
    def blank(self) -> NDArray[np.bool_]:
        """(N,) True where a row could be a blank one: action, reward and terminal are all zero."""
        return (self.actions == 0) & (self.rewards == 0) & (self.terminals == 0)

    def range_fits(self, stack_size: int) -> bool:
        """Whether invalid_range names the rows around the cursor: cursor - 1 and the `stack_size` after it, modulo N.

        One that was not read (empty) denies nothing.
        """
        expected = (self.cursor - 1 + np.arange(stack_size + 1)) % self.capacity
        return not len(self.invalid_range) or np.array_equal(self.invalid_range, expected)

    def differing(self, other: "RingLog", rows: Sequence[Span]) -> int:
        """How many of these rows hold other values in `other`."""
        count = 0
        for start, stop in rows:
            differ = np.zeros(stop - start, np.bool_)
            for name in ("actions", "rewards", "terminals"):
                differ |= getattr(self, name)[start:stop] != getattr(other, name)[start:stop]
            count += int(differ.sum())
        return count
