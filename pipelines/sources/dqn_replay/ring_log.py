"""One log of a replay ring: its six files are read and compared in length, and the ring's numbers get their meaning.

A ring of N rows with add_count a holds the add numbers max(0, a - N) .. a - 1, and number n lies in row n % N. A
snapshot means no more than that, whenever it was taken. log_order.py tests against the rows what the numbers claim.
`read_logs` reads all logs of one agent. Of the observation file it reads only the header. A plan that may not touch
that file leaves it out; then only the lengths of the other files are compared.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.listing import KINDS, SIDE_KINDS, RemoteObject
from pipelines.sources.dqn_replay.log_reader import read_array, read_header

RowRange = tuple[int, int]  # rows start .. stop-1 of one ring


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


FRAME = (84, 84)

REPAIR = "fetch that checkpoint again from its source, or remove all of its files"

OTHERWISE = "the file is whole but was not written as that: put the right array there, or remove all files of that log"

NUMBERS = {"action": "iu", "reward": "f", "terminal": "iub", "add_count": "iu", "invalid_range": "iu"}

NO_ACTION, NO_REWARD, NO_TERMINAL = 255, 2.0, 2  # they stand for impossible numbers, and fail their checks


def read_log(checkpoint: int, kinds: Mapping[str, RemoteObject], bucket: Bucket) -> RingLog | str:
    """The small arrays of one checkpoint. When its files disagree in length, the result is one line that says so.

    Actions become uint8, rewards float32, terminals uint8. Rows that were never written may hold anything, so
    impossible numbers are replaced by NO_ACTION, NO_REWARD and NO_TERMINAL. Raises WorldlineError for a damaged file
    and for arrays of another kind.
    """
    arrays = {kind: read_array(item, bucket) for kind, item in kinds.items() if kind != "observation"}
    for kind, allowed in NUMBERS.items():
        if arrays[kind].dtype.kind not in allowed:
            raise WorldlineError(f"{kinds[kind].url} holds {arrays[kind].dtype}, not what {kind} is: {OTHERWISE}")
    sides = {"add_count": arrays["add_count"].size == 1, "invalid_range": arrays["invalid_range"].ndim == 1}
    for kind in (kind for kind, fits in sides.items() if not fits):
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
        int(arrays["add_count"].reshape(())),
        _where(arrays["action"], (arrays["action"] >= 0) & (arrays["action"] < NO_ACTION), NO_ACTION, np.uint8),
        _where(arrays["reward"], np.isfinite(arrays["reward"]), NO_REWARD, np.float32),
        _where(arrays["terminal"], np.isin(arrays["terminal"], (0, 1)), NO_TERMINAL, np.uint8),
        arrays["invalid_range"].astype(np.int64),
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
