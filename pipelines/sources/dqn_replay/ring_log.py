"""Logs of a replay ring: written as the DQN-Replay agents did, read, and the ring's numbers given their meaning.

A ring is logged whole each time it is about to be full, so logs are snapshots of a ring and not slices of a stream. A
reader has to live with what follows from that: blank rows stand before each episode; the last row of a log is one lap
old (in log 0 it is blank, because our ring starts as zeros; the original's is uninitialised); logs cut episodes in two;
the final log is mostly stale; and now and then a lap has no log. log_order.py and stitch.py undo all of that.

A ring of N rows with add_count a holds the add numbers max(0, a - N) .. a - 1, and number n lies in row n % N. A
snapshot means no more than that, whenever it was taken. log_order.py tests against the rows what the numbers claim.
`read_logs` reads all logs of one agent; the six files of a log are compared in length. Of the observation file it reads
only the header. A plan that may not touch that file leaves it out; then only the lengths of the others are compared.
Source: Dopamine's OutOfGraphReplayBuffer of May 2019 with batch_rl's LoggedReplayBuffer (arXiv 1907.04543).
"""

import gzip
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.listing import KINDS, SIDE_KINDS, RemoteObject, file_name
from pipelines.sources.dqn_replay.log_reader import read_array, read_header

GZIP_LEVEL = 6  # the original's is 9; BENCHMARKS.md compares levels
FRAME = (84, 84)
REPAIR = "fetch that checkpoint again from its source, or remove all of its files"
OTHERWISE = "the file is whole but was not written as that: put the right array there, or remove all files of that log"
NUMBERS = {"action": "iu", "reward": "f", "terminal": "iub", "add_count": "iu", "invalid_range": "iu"}
NO_ACTION, NO_REWARD, NO_TERMINAL = 255, 2.0, 2  # they stand for impossible numbers, and fail their checks
RowRange = tuple[int, int]  # rows start .. stop-1 of one ring

NO_COUNT = -1


class RingWriter:
    """A replay ring of `capacity` rows that logs itself into `folder` (which must exist). A row takes 7,065 bytes.

    Rows hold observation uint8 (`frame_shape`), action int32, reward float32 (the caller clips it), terminal uint8.
    Before each episode come `stack_size` - 1 blank rows, so that a reader can stack frames without looking further
    back. Raises ValueError for a ring that cannot hold one stack.
    """

    def __init__(self, folder: Path, capacity: int, stack_size: int = 4, frame_shape: tuple[int, int] = FRAME) -> None:
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


def row_ranges(first: int, stop: int, capacity: int) -> list[RowRange]:
    """The rows of add numbers first .. stop-1, in their order: one range per lap that they touch. `first` may be -1."""
    found = []
    while first < stop:
        row = first % capacity
        count = min(capacity - row, stop - first)
        found.append((row, row + count))
        first += count
    return found


@dataclass(frozen=True)
class RingLog:
    """The small arrays of one log file number. actions, rewards, terminals: (N,); invalid_range: (stack size + 1,).

    add_count is NO_COUNT and invalid_range empty where those files are not there.
    """

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
    def counted(self) -> bool:
        """Whether its add_count is known."""
        return self.add_count != NO_COUNT

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

        An empty invalid_range, which was not read, contradicts nothing.
        """
        expected = (self.cursor - 1 + np.arange(stack_size + 1)) % self.capacity
        return not len(self.invalid_range) or np.array_equal(self.invalid_range, expected)

    def differing(self, other: "RingLog", rows: Sequence[RowRange]) -> int:
        """How many of these rows hold other values in `other`."""
        count = 0
        for start, stop in rows:
            differ = np.zeros(stop - start, np.bool_)
            for name in ("actions", "rewards", "terminals"):
                differ |= getattr(self, name)[start:stop] != getattr(other, name)[start:stop]
            count += int(differ.sum())
        return count


def read_log(checkpoint: int, kinds: Mapping[str, RemoteObject], bucket: Bucket) -> RingLog | str:
    """The small arrays of one checkpoint. When its files disagree in length, the result is one line that says so.

    Actions become uint8, rewards float32, terminals uint8. Rows that were never written may hold anything, so
    impossible numbers are replaced by NO_ACTION, NO_REWARD and NO_TERMINAL. Side files may be left out. Raises
    WorldlineError for a damaged file and for arrays of another kind.
    """
    arrays = {kind: read_array(item, bucket) for kind, item in kinds.items() if kind != "observation"}
    for kind in arrays:
        if arrays[kind].dtype.kind not in NUMBERS[kind]:
            raise WorldlineError(f"{kinds[kind].url} holds {arrays[kind].dtype}, not what {kind} is: {OTHERWISE}")
    count = arrays.get("add_count", np.array(NO_COUNT))
    around = arrays.get("invalid_range", np.zeros(0, np.int64))
    for kind, odd in (("add_count", count.size != 1), ("invalid_range", around.ndim != 1)):
        if odd:
            raise WorldlineError(f"{kinds[kind].url} has shape {arrays[kind].shape}, not that of {kind}: {OTHERWISE}")
    shapes = {kind: array.shape for kind, array in arrays.items() if kind not in SIDE_KINDS}
    if "observation" in kinds:
        shapes["observation"] = _frames(kinds["observation"], bucket)
    if flat := next((kind for kind, shape in shapes.items() if len(shape) != 1), None):
        raise WorldlineError(f"{kinds[flat].url} has shape {shapes[flat]}, one number a row is expected: {OTHERWISE}")
    if len(set(shapes.values())) != 1:
        rows = ", ".join(f"{kind} {shapes[kind][0]:,}" for kind in KINDS if kind in shapes)
        return f"log {checkpoint} ({rows})"
    return RingLog(
        checkpoint,
        int(count.reshape(())),
        _where(arrays["action"], (arrays["action"] >= 0) & (arrays["action"] < NO_ACTION), NO_ACTION, np.uint8),
        _where(arrays["reward"], np.isfinite(arrays["reward"]), NO_REWARD, np.float32),
        _where(arrays["terminal"], np.isin(arrays["terminal"], (0, 1)), NO_TERMINAL, np.uint8),
        around.astype(np.int64),
    )


def read_logs(
    groups: Iterable[tuple[int, Mapping[str, RemoteObject]]], bucket: Bucket, advance: Callable[[int], None]
) -> tuple[list[RingLog], dict[int, str]]:
    """All logs of one agent, and by checkpoint a line for each log whose files disagree in length.

    groups: checkpoint and its objects by kind. `advance(n)` is called whenever n more files were read. Raises
    WorldlineError as `read_log`.
    """
    logs: list[RingLog] = []
    left_out: dict[int, str] = {}
    for checkpoint, kinds in groups:
        log = read_log(checkpoint, kinds, bucket)
        if isinstance(log, RingLog):
            logs.append(log)
        else:
            left_out[checkpoint] = log
        advance(len(kinds))
    return logs, left_out


def _frames(item: RemoteObject, bucket: Bucket) -> tuple[int, ...]:
    header = read_header(item, bucket)
    if header.dtype != np.uint8 or header.shape[1:] != FRAME:
        raise WorldlineError(
            f"{item.url} holds {header.dtype} of shape {header.shape}, frames are uint8 (N, 84, 84): {OTHERWISE}"
        )
    return header.shape[:1]


def _where(array: NDArray, possible: NDArray[np.bool_], instead: float, dtype: type[np.generic]) -> NDArray:
    return np.where(possible, array, instead).astype(dtype)
