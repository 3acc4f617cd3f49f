"""An unbroken run of rows, put together from parts of log files, and the episodes that lie in it.

Shape letters: R rows of the run, P parts, E episodes. A part is a span of rows of one file; where two parts meet is a
seam: the end of a ring and its start, or one file and the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.sources.dqn_replay.log_order import Stretch
from pipelines.sources.dqn_replay.ring_log import RingLog, Span

EPISODE_COLUMNS = [
    "agent",
    "episode",
    "length",
    "return",
    "terminated",
    "truncated",
    "complete",
    "checkpoint",
    "first_file",
    "first_row",
    "last_file",
    "last_row",
]

PIECE_COLUMNS = ["episode", "file", "start", "stop"]

Part = tuple[RingLog, Span]


@dataclass(frozen=True)
class Stream:
    """`offsets` (P+1,): where each part starts in the run; `files`, `firsts` (P,): its checkpoint, its first row."""

    offsets: NDArray[np.int64]
    files: NDArray[np.int64]
    firsts: NDArray[np.int64]
    rewards: NDArray[np.floating]  # (R,)
    ends: NDArray[np.int64]  # the place after each terminal
    blank: NDArray[np.bool_]  # (R,)
    origin: bool  # the run's first row is the agent's first

    @classmethod
    def of(cls, parts: Sequence[Part], origin: bool) -> "Stream":
        """Concatenate parts, at least one and none empty."""
        lengths = [stop - start for _, (start, stop) in parts]
        terminals = np.concatenate([log.terminals[start:stop] != 0 for log, (start, stop) in parts])
        blanks = {log.checkpoint: log.blank for log, _ in parts}
        return cls(
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            files=np.array([log.checkpoint for log, _ in parts]),
            firsts=np.array([start for _, (start, _) in parts]),
            rewards=np.concatenate([log.rewards[start:stop] for log, (start, stop) in parts]),
            ends=np.flatnonzero(terminals) + 1,
            blank=np.concatenate([blanks[log.checkpoint][start:stop] for log, (start, stop) in parts]),
            origin=origin,
        )

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def locate(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """File and row of each place in the run."""
        part = np.searchsorted(self.offsets, places, side="right") - 1
        return self.files[part], self.firsts[part] + places - self.offsets[part]

    def padded(self, places: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """Whether `count` blank rows lie from each place on; rows beyond the run count as blank."""
        ahead = places[:, None] + np.arange(count)
        return (self.blank[np.minimum(ahead, len(self) - 1)] | (ahead >= len(self))).all(axis=1)

    def crosses(self, places: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """Whether a seam lies between the row before each place and the `count` rows from it on."""
        seams = self.offsets[1:-1]
        low, high = np.searchsorted(seams, places, "left"), np.searchsorted(seams, places + count - 1, "right")
        return high > low

    def table(self, starts: NDArray, stops: NDArray, **flags: NDArray) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Episodes of rows starts .. stops-1 (none empty, ascending) with these columns, and the pieces they lie in."""
        first_file, first_row = self.locate(starts)
        last_file, last_row = self.locate(stops - 1)
        bounds = np.stack([starts, stops], axis=1).ravel()
        padded = np.append(self.rewards, np.float32(0))  # a bound may be the run's length
        returns = np.add.reduceat(padded, bounds, dtype=np.float64)[::2] if len(bounds) else np.zeros(0)
        columns = {
            "length": stops - starts,
            "return": returns,
            **flags,
            "checkpoint": last_file,
            "first_file": first_file,
            "first_row": first_row,
            "last_file": last_file,
            "last_row": last_row,
        }
        return pd.DataFrame(columns), self._pieces(starts, stops)

    def _pieces(self, starts: NDArray, stops: NDArray) -> pd.DataFrame:
        """Cut each episode at every seam."""
        cuts = np.unique(np.concatenate([starts, self.offsets[:-1]]))
        owner = np.searchsorted(starts, cuts, side="right") - 1
        inside = owner >= 0
        inside[inside] = cuts[inside] < stops[owner[inside]]
        limits = np.append(cuts[1:], len(self))[inside]
        cuts, owner = cuts[inside], owner[inside]
        files, rows = self.locate(cuts)
        lengths = np.minimum(limits, stops[owner]) - cuts
        return pd.DataFrame({"episode": owner, "file": files, "start": rows, "stop": rows + lengths}, dtype="int64")


def parts(stretch: Stretch) -> list[Part]:
    """A stretch as parts, none empty."""
    return [(stretch.log, span) for span in stretch.spans]
