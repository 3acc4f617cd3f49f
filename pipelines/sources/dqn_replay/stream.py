"""A stream is an unbroken run of rows, joined from parts of log files. It is cut into episodes here.

Shape letters: R rows of the stream, P parts, E episodes. A part is a range of rows of one file. Two parts meet at a
seam: between the end of a ring and its start, or between one file and the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.sources.dqn_replay.log_order import LogSpan
from pipelines.sources.dqn_replay.ring_log import RingLog, RowRange

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

Part = tuple[RingLog, RowRange]


@dataclass(frozen=True)
class Stream:
    """Rows in the order in which the agent lived them.

    offsets (P+1,): where each part starts in the stream, and its length. files, firsts (P,): the checkpoint of each
    part and its first row there. A place is an index into the stream.
    """

    offsets: NDArray[np.int64]
    files: NDArray[np.int64]
    firsts: NDArray[np.int64]
    rewards: NDArray[np.floating]  # (R,)
    ends: NDArray[np.int64]  # the place after each terminal
    blank: NDArray[np.bool_]  # (R,)
    origin: bool  # the first row of the stream is the first of the agent

    @classmethod
    def of(cls, parts: Sequence[Part], origin: bool) -> "Stream":
        """Concatenate at least one part; none may be empty."""
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
        """File and row of each place."""
        part = np.searchsorted(self.offsets, places, side="right") - 1
        return self.files[part], self.firsts[part] + places - self.offsets[part]

    def padded(self, places: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """Whether `count` blank rows lie from each place on. Rows beyond the end count as blank."""
        ahead = places[:, None] + np.arange(count)
        return (self.blank[np.minimum(ahead, len(self) - 1)] | (ahead >= len(self))).all(axis=1)

    def crosses(self, places: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """Whether a seam lies between the row before each place and the `count` rows from it on."""
        seams = self.offsets[1:-1]
        low, high = np.searchsorted(seams, places, "left"), np.searchsorted(seams, places + count - 1, "right")
        return high > low

    def table(self, starts: NDArray, stops: NDArray, **flags: NDArray) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The table of episodes of rows starts .. stops-1, and the table of the pieces that they lie in.

        starts, stops (E,): ascending, no episode empty. flags (E,): further columns by name.
        """
        first_file, first_row = self.locate(starts)
        last_file, last_row = self.locate(stops - 1)
        bounds = np.stack([starts, stops], axis=1).ravel()
        padded = np.append(self.rewards, np.float32(0))  # a bound may be the stream's length
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


def parts(span: LogSpan) -> list[Part]:
    """The new rows of a log as parts, none empty."""
    return [(span.log, rows) for rows in span.row_ranges]
