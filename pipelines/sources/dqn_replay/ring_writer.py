"""Writes replay as the DQN-Replay agents did: a ring of rows, which is logged whole each time it is about to be full.

The logs are snapshots of a ring and not slices of a stream. A reader has to live with what follows from that: blank
rows stand before each episode; the last row of a log is one lap old (in log 0 it is blank, because our ring starts as
zeros; the original's is uninitialised); logs cut episodes in two; the final log is mostly stale; and now and then a
lap has no log. log_order.py and stitch.py undo all of that. A ring takes `capacity` x 7,065 bytes of memory.
Source: Dopamine's OutOfGraphReplayBuffer of May 2019 with batch_rl's LoggedReplayBuffer (arXiv 1907.04543).
"""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.sources.dqn_replay.listing import file_name

GZIP_LEVEL = 6  # the original's is 9; BENCHMARKS.md compares levels

FRAME_SHAPE = (84, 84)


class RingWriter:
    """A replay ring of `capacity` rows that logs itself into `folder` (which must exist).

    Rows hold observation uint8 (`frame_shape`), action int32, reward float32 (the caller clips it), terminal uint8.
    Before each episode come `stack_size` - 1 blank rows, so that a reader can stack frames without looking further
    back. Raises ValueError for a ring that cannot hold one stack.
    """

    def __init__(
        self, folder: Path, capacity: int, stack_size: int = 4, frame_shape: tuple[int, int] = FRAME_SHAPE
    ) -> None:
        if stack_size < 1 or capacity <= stack_size + 1:
            raise ValueError(f"A ring of {capacity} rows is too small for stacks of {stack_size}: make it larger")
        self.folder = folder
        self.capacity = capacity
        self.stack_size = stack_size
        self.frame_shape = frame_shape
        self.add_count = 0
        self.logs = 0
        self._rows: dict[str, NDArray] = {
            "observation": np.zeros((capacity, *frame_shape), np.uint8),
            "action": np.zeros(capacity, np.int32),
            "reward": np.zeros(capacity, np.float32),
            "terminal": np.zeros(capacity, np.uint8),
        }

    @property
    def cursor(self) -> int:
        """The row that the next transition goes to."""
        return self.add_count % self.capacity

    def add(self, frame: NDArray[np.uint8], action: int, reward: float, terminal: bool) -> None:
        """Append one transition: the frame acted on, the action, its clipped reward, whether it ended the episode.

        Raises ValueError for a frame of another shape.
        """
        if frame.shape != self.frame_shape:
            raise ValueError(f"A frame of shape {frame.shape} does not fit a ring of frames {self.frame_shape}")
        if self.add_count == 0 or self._rows["terminal"][self.cursor - 1]:
            self._pad()
        self._put(frame, action, reward, terminal)
        # The original tests once per transition, not per row: blank rows can jump over the moment, and a lap is lost.
        if self._due():
            self._log(self.add_count)

    def close(self) -> None:
        """Log the ring a last time. As in the original, `add_count` is the cursor then: the number of fresh rows."""
        self._log(self.cursor)

    @property
    def invalid_range(self) -> NDArray[np.int64]:
        """The rows around the cursor that no stack of frames may touch, (stack_size + 1,)."""
        return (self.cursor - 1 + np.arange(self.stack_size + 1)) % self.capacity

    def _due(self) -> bool:
        return self.cursor == self.capacity - 1

    def _pad(self) -> None:
        for _ in range(self.stack_size - 1):
            self._put(0, 0, 0.0, False)

    def _put(self, frame: NDArray[np.uint8] | int, action: int, reward: float, terminal: bool) -> None:
        row = self.cursor
        self._rows["observation"][row] = frame
        self._rows["action"][row] = action
        self._rows["reward"][row] = reward
        self._rows["terminal"][row] = terminal
        self.add_count += 1

    def _log(self, add_count: int) -> None:
        side = {"add_count": np.array(add_count, np.int64), "invalid_range": self.invalid_range}
        for kind, array in (self._rows | side).items():
            _save(self.folder / file_name(kind, self.logs), array)
        self.logs += 1


def _save(path: Path, array: NDArray) -> None:
    """Write a gzip'd .npy whose bytes depend on the array alone: its header holds no file name and no time."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
        np.save(packed, array, allow_pickle=False)
