"""Which rows of each log are new, and whether they continue the log before: by the counts, tested on the rows.

The collectors log one row before a lap is full, so the rows of a log are one lap's but the last, which is the row
before them; the last log has its count reset to the cursor. None of that is assumed: `counted` takes a snapshot of any
count, and `reset` accepts a lap only where the rows that both logs must share prove it.
Source: Dopamine's circular replay buffer of May 2019 with batch_rl's LoggedReplayBuffer (arXiv 1907.04543).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.ring_log import RingLog, Span, spans

TELLING = 8  # shared rows that are not blank, from which on chance does not make two laps look alike


class Border(StrEnum):
    """How the new rows of a log meet those of the log before."""

    FIRST = "first"  # no log before
    JOINED = "joined"
    AGAIN = "again"  # the same snapshot twice: no new row
    GAP = "gap"  # rows in between are in no log
    DIFFERS = "differs"  # rows that both logs hold by their counts differ
    UNPROVEN = "unproven"  # the last log's reset count fits the very next lap, and others
    BACK = "back"  # the count goes back
    RANGE = "range"  # joined by the count, but invalid_range of either log names other rows than the cursor's
    DISORDERED = "disordered"  # joined by the count, refuted by blank rows that do not follow a terminal
    LEFT_OUT = "left out"  # the log's files disagree in length


@dataclass(frozen=True)
class Stretch:
    """New rows of one log: add numbers first .. stop-1, as its own count has them (-1 is the row before row 0).

    `origin`: the first of them is the first of the whole stream. `overlap` rows had to equal those of the log before,
    `differing` of them do not. `missing` counts the rows between this and the log before, where the counts tell.
    `range_fits` is False where invalid_range denies the count: then no part of the log is put next to another.
    """

    log: RingLog
    first: int
    stop: int
    border: Border
    origin: bool = False
    reset: bool = False
    overlap: int = 0
    differing: int = 0
    missing: int = 0
    range_fits: bool = True

    @property
    def spans(self) -> list[Span]:
        """Where the rows lie, in stream order; cut also at the cursor that a denying invalid_range names."""
        found = spans(self.first, self.stop, self.log.capacity)
        if self.range_fits:
            return found
        cut = int(self.log.invalid_range[0] + 1) % self.log.capacity
        ends = [(start, min(stop, max(start, cut)), stop) for start, stop in found]
        return [span for start, middle, stop in ends for span in ((start, middle), (middle, stop)) if span[0] < span[1]]


def order(logs: Sequence[RingLog], stack_size: int) -> list[Stretch]:
    """One stretch per log, in order.

    Raises WorldlineError for no log, logs out of order or of different rings, a negative count, and no new row at all.
    """
    if not logs:
        raise WorldlineError("No replay log to stitch: list the bucket again")
    stretches: list[Stretch] = []
    previous: RingLog | None = None
    for log in logs:
        if log.capacity != logs[0].capacity or (previous and log.checkpoint <= previous.checkpoint):
            raise WorldlineError(
                f"Log {log.checkpoint} has {log.capacity} rows after logs of {logs[0].capacity}: all logs of an agent "
                "have one ring size and ascending numbers; fetch that log again"
            )
        if log.add_count < 0 or not log.capacity:
            raise WorldlineError(
                f"Log {log.checkpoint} has add_count {log.add_count} in a ring of {log.capacity} rows: neither can be; "
                "fetch that log again"
            )
        last = log is logs[-1] and _may_be_reset(log, previous)
        stretch = _reset(log, previous, stack_size) if last else _counted(log, previous)
        stretch = replace(stretch, range_fits=log.range_fits(stack_size))
        if stretch.border == Border.JOINED and not (stretch.range_fits and stretches[-1].range_fits):
            stretch = replace(stretch, border=Border.RANGE)
        stretches.append(stretch)
        previous = log
    if not any(stretch.first < stretch.stop for stretch in stretches):
        raise WorldlineError(
            f"Log {logs[0].checkpoint} holds no transition that is new (add_count 0): collect more steps"
        )
    return stretches


def _counted(log: RingLog, previous: RingLog | None) -> Stretch:
    """A log whose count is taken at its word, unless the rows deny it."""
    if previous is None:
        return Stretch(log, log.oldest, log.add_count, Border.FIRST, origin=log.oldest == 0)
    seen = previous.add_count
    if log.add_count > seen and log.oldest > seen:
        return Stretch(log, log.oldest, log.add_count, Border.GAP, missing=log.oldest - seen)
    shared = spans(log.oldest, seen, log.capacity)
    differing = log.differing(previous, shared) if log.add_count >= seen else 0
    overlap = max(0, seen - log.oldest)
    if log.add_count < seen or (log.add_count == seen and differing):
        return Stretch(log, log.oldest, log.add_count, Border.BACK)
    if log.add_count == seen:
        return Stretch(log, seen, seen, Border.AGAIN, overlap=overlap)
    border = Border.DIFFERS if differing else Border.JOINED
    return Stretch(log, seen, log.add_count, border, overlap=overlap, differing=differing)


def _may_be_reset(log: RingLog, previous: RingLog | None) -> bool:
    """Whether the last log's count may be its cursor only. A lone log that is full but for a row is the first lap's."""
    return log.add_count < log.capacity - (previous is None)


def _reset(log: RingLog, previous: RingLog | None, stack_size: int) -> Stretch:
    """The last log, `add_count` new rows from row 0 on in a lap that only the rows can tell."""
    count, capacity = log.add_count, log.capacity
    if previous is None:
        # Either the first lap was never full, or it was and went unlogged. The latter leaves a terminal (see _proven)
        # in rows that are still stale here, so blank rows beyond the cursor prove the former.
        origin = count < capacity - stack_size and bool(log.blank[count:].all())
        return Stretch(log, 0, count, Border.FIRST, origin=origin, reset=True)
    ahead = (count - previous.cursor) % capacity  # new rows, if less than a lap lies between
    total = previous.add_count + ahead
    shared = spans(max(0, total - capacity), previous.add_count, capacity)
    overlap = sum(stop - start for start, stop in shared)
    differing = log.differing(previous, shared)
    if differing or not ahead:
        if not differing:
            return Stretch(log, count, count, Border.AGAIN, reset=True, overlap=overlap)
        return Stretch(log, -1, count, Border.GAP, reset=True, overlap=overlap, differing=differing)
    adjacent = log.checkpoint == previous.checkpoint + 1
    border = Border.JOINED if adjacent and _proven(log, previous, shared, stack_size) else Border.UNPROVEN
    return Stretch(log, count - ahead, count, border, reset=True, overlap=overlap)


def _proven(log: RingLog, previous: RingLog, shared: Sequence[Span], stack_size: int) -> bool:
    """Whether equal shared rows prove that less than a lap lies between the two logs.

    Where the log before was due one row before its lap's end, a lap goes unlogged only when that row (N - 2) was
    blank. In `previous` it is real. So shared rows prove the next lap once they show it to be real: it is not all zero,
    or the `stack_size` - 1 rows before it are shared too and none is a terminal that blank rows would follow.
    Where the log before was taken at any other moment, TELLING rows that are not blank must be equal.
    """
    trigger = log.capacity - 2
    if previous.cursor != trigger + 1:
        return sum(int((~previous.blank[start:stop]).sum()) for start, stop in shared) >= TELLING
    if not previous.blank[trigger] or stack_size == 1:
        return True
    return log.add_count <= trigger - (stack_size - 1)
