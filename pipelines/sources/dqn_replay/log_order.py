"""Tells which rows of each log are new, and whether they continue the log before; and keeps the facts about each log.

The counts say it, the rows prove it. The collectors wrote a log one row before a lap was full. All rows of a log but
the last are therefore of one lap, and the last row is the one before them. In the last log of an agent the count is
reset to the cursor. `order_logs` assumes none of that: it takes snapshots of any count, and accepts the lap of a reset
count only where the rows that both logs must share prove it.

How the collectors wrote is known from their sources only, so it is detected in every file anew: how it continues the
log before, and what follows its terminals. The facts are kept as evidence.parquet in the `replay` artefact, one row per
log, and Dagster shows them as a table.
Source: Dopamine's circular replay buffer of May 2019 with batch_rl's LoggedReplayBuffer (arXiv 1907.04543).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum

import pandas as pd

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.ring_log import RingLog, RowRange, row_ranges

TELLING = 8  # so many equal rows that are not blank prove a lap: chance does not make two laps look that much alike


class Continuity(StrEnum):
    """How the new rows of a log continue those of the log before."""

    FIRST = "first"  # there is no log before
    JOINED = "joined"  # they follow without a gap
    AGAIN = "again"  # it is the same snapshot twice: there is no new row
    GAP = "gap"  # rows in between are in no log
    DIFFERS = "differs"  # rows that both logs hold by their counts differ
    UNPROVEN = "unproven"  # the last log's reset count fits the very next lap, and other laps as well
    BACK = "back"  # the count goes back
    RANGE = "range"  # the count joins them, but invalid_range of either log names other rows than the cursor's
    DISORDERED = "disordered"  # the count joins them, but blank rows do not follow a terminal as they must
    UNCOUNTED = "uncounted"  # no count is there: which rows are new, and what they continue, cannot be known
    LEFT_OUT = "left out"  # the log's files disagree in length


UNJOINED = (
    Continuity.GAP,
    Continuity.DIFFERS,
    Continuity.UNPROVEN,
    Continuity.BACK,
    Continuity.RANGE,
    Continuity.DISORDERED,
    Continuity.UNCOUNTED,
)


@dataclass(frozen=True)
class LogSpan:
    """The new rows of one log: add numbers first .. stop-1, as its own count has them (-1 is the row before row 0).

    `origin` says that the first of them is the first row of the agent. `overlap` rows had to equal those of the log
    before, and `differing` of them do not. `missing` counts the rows between the log before and this one, where the
    counts tell. `range_fits` is False where invalid_range contradicts the count; then no rows of this log are joined to
    any others.
    """

    log: RingLog
    first: int
    stop: int
    continuity: Continuity
    origin: bool = False
    reset: bool = False
    overlap: int = 0
    differing: int = 0
    missing: int = 0
    range_fits: bool = True

    @property
    def row_ranges(self) -> list[RowRange]:
        """Where the rows lie, in the order of their numbers.

        Where invalid_range contradicts the count, the ranges are cut at the cursor that it names, too.
        """
        found = row_ranges(self.first, self.stop, self.log.capacity)
        if self.range_fits:
            return found
        place = int(self.log.invalid_range[0] + 1) % self.log.capacity
        ends = [(start, min(stop, max(start, place)), stop) for start, stop in found]
        return [cut for start, middle, stop in ends for cut in ((start, middle), (middle, stop)) if cut[0] < cut[1]]


def order_logs(logs: Sequence[RingLog], stack_size: int) -> list[LogSpan]:
    """The new rows of each log, in the logs' order.

    Raises WorldlineError when there is no log, when logs are out of order or of different rings, for a negative count,
    and when no log holds a new row.
    """
    if not logs:
        raise WorldlineError("No replay log to stitch: list the bucket again")
    spans: list[LogSpan] = []
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
        span = _reset(log, previous, stack_size) if last else _counted(log, previous)
        span = replace(span, range_fits=log.range_fits(stack_size))
        if span.continuity == Continuity.JOINED and not (span.range_fits and spans[-1].range_fits):
            span = replace(span, continuity=Continuity.RANGE)
        spans.append(span)
        previous = log
    if not any(span.first < span.stop for span in spans):
        raise WorldlineError(
            f"Log {logs[0].checkpoint} holds no transition that is new (add_count 0): collect more steps"
        )
    return spans


def _counted(log: RingLog, previous: RingLog | None) -> LogSpan:
    """The new rows of a log whose count is taken as it is, unless the rows contradict it."""
    if previous is None:
        return LogSpan(log, log.oldest, log.add_count, Continuity.FIRST, origin=log.oldest == 0)
    seen = previous.add_count  # rows that the logs before have shown
    if log.add_count > seen and log.oldest > seen:
        return LogSpan(log, log.oldest, log.add_count, Continuity.GAP, missing=log.oldest - seen)
    shared = row_ranges(log.oldest, seen, log.capacity)
    differing = log.differing(previous, shared) if log.add_count >= seen else 0
    overlap = max(0, seen - log.oldest)
    if log.add_count < seen or (log.add_count == seen and differing):
        return LogSpan(log, log.oldest, log.add_count, Continuity.BACK)
    if log.add_count == seen:
        return LogSpan(log, seen, seen, Continuity.AGAIN, overlap=overlap)
    continuity = Continuity.DIFFERS if differing else Continuity.JOINED
    return LogSpan(log, seen, log.add_count, continuity, overlap=overlap, differing=differing)


def _may_be_reset(log: RingLog, previous: RingLog | None) -> bool:
    """Whether the count of the last log may be its cursor only.

    A log that stands alone and is full but for one row is the first lap's.
    """
    return log.add_count < log.capacity - (previous is None)


def _reset(log: RingLog, previous: RingLog | None, stack_size: int) -> LogSpan:
    """The new rows of the last log: `add_count` of them, from row 0 on. Only the rows can tell which lap it is."""
    count, capacity = log.add_count, log.capacity
    if previous is None:
        # Either the first lap was never full, or it was full and no log of it was written. The latter leaves a terminal
        # (see _proven) in rows that are still stale here, so blank rows beyond the cursor prove the former.
        origin = count < capacity - stack_size and bool(log.blank[count:].all())
        return LogSpan(log, 0, count, Continuity.FIRST, origin=origin, reset=True)
    ahead = (count - previous.cursor) % capacity  # new rows, if less than a lap lies between
    total = previous.add_count + ahead
    shared = row_ranges(max(0, total - capacity), previous.add_count, capacity)
    overlap = sum(stop - start for start, stop in shared)
    differing = log.differing(previous, shared)
    if differing or not ahead:
        if not differing:
            return LogSpan(log, count, count, Continuity.AGAIN, reset=True, overlap=overlap)
        return LogSpan(log, -1, count, Continuity.GAP, reset=True, overlap=overlap, differing=differing)
    adjacent = log.checkpoint == previous.checkpoint + 1
    continuity = Continuity.JOINED if adjacent and _proven(log, previous, shared, stack_size) else Continuity.UNPROVEN
    return LogSpan(log, count - ahead, count, continuity, reset=True, overlap=overlap)


def _proven(log: RingLog, previous: RingLog, shared: Sequence[RowRange], stack_size: int) -> bool:
    """Whether equal shared rows prove that less than a lap lies between the two logs.

    When the log before was written one row before its lap's end, the writer skips the log of a lap only when the row
    that triggers it (row N - 2) was blank. In `previous` that row is real. So shared rows prove the next lap once they
    show the row to be real: it is not all zero, or the `stack_size` - 1 rows before it are shared too and none of them
    is a terminal that blank rows would follow. When the log before was written at any other moment, TELLING rows that
    are not blank must be equal.
    """
    trigger = log.capacity - 2
    if previous.cursor != trigger + 1:
        return sum(int((~previous.blank[start:stop]).sum()) for start, stop in shared) >= TELLING
    if not previous.blank[trigger] or stack_size == 1:
        return True
    return log.add_count <= trigger - (stack_size - 1)


# ---- facts ----


class Padding(StrEnum):
    """Whether blank rows (stack size - 1 of them) follow the terminals inside a file."""

    ALL = "all"
    NONE = "none"
    MIXED = "mixed"
    UNKNOWN = "untold"  # no terminal has enough rows behind it (artefacts hold this word)


@dataclass(frozen=True)
class LogFacts:
    """Facts about one log. Numbers count rows unless said otherwise.

    period, cursor: add_count divided by the rows of the ring, and the remainder. reset: the count was read as the
    cursor only. fresh: rows that no log before holds. Where there is no count, add_count is -1 and these are 0.
    overlap: rows that had to equal those of the log before; `differing` of them do not. missing: rows between the two
    logs. padded, bare: terminals inside the file with and without blank rows behind them. confirmed, refuted: terminals
    right before a place where rows of two files, or the end and the start of a ring, were joined, with and without the
    blank rows that this order demands.
    """

    checkpoint: int
    continuity: Continuity
    add_count: int = 0
    rows: int = 0
    period: int = 0
    cursor: int = 0
    reset: bool = False
    range_fits: bool = True
    fresh: int = 0
    overlap: int = 0
    differing: int = 0
    missing: int = 0
    padding: Padding = Padding.UNKNOWN
    padded: int = 0
    bare: int = 0
    confirmed: int = 0
    refuted: int = 0

    @classmethod
    def of(cls, span: LogSpan, terminals: "TerminalCounts", disordered: bool) -> "LogFacts":
        """The facts that the rows of a log and its terminals show. disordered: rows of this agent refuted an order."""
        log = span.log
        continuity = Continuity.DISORDERED if disordered and span.continuity == Continuity.JOINED else span.continuity
        return cls(
            checkpoint=log.checkpoint,
            continuity=continuity,
            add_count=log.add_count,
            rows=log.capacity,
            period=log.add_count // log.capacity if log.counted else 0,
            cursor=log.cursor if log.counted else 0,
            reset=span.reset,
            range_fits=span.range_fits,
            fresh=span.stop - span.first if log.counted else 0,
            overlap=span.overlap,
            differing=span.differing,
            missing=span.missing,
            padding=terminals.padding,
            **asdict(terminals),
        )


@dataclass
class TerminalCounts:
    """Terminals of one file, counted by what follows them; see LogFacts."""

    padded: int = 0
    bare: int = 0
    confirmed: int = 0
    refuted: int = 0

    @property
    def padding(self) -> Padding:
        """The pattern inside the file."""
        if not self.padded and not self.bare:
            return Padding.UNKNOWN
        return Padding.MIXED if self.padded and self.bare else Padding.ALL if self.padded else Padding.NONE


def pooled(patterns: Sequence[Padding]) -> Padding:
    """The pattern of all files together. A file whose own is unknown is read by this one.

    Where every file's is unknown it is ALL, as in the collectors' sources: that joins nothing without blank rows, and
    so errs on the safe side.
    """
    known = set(patterns) - {Padding.UNKNOWN}
    return Padding.MIXED if len(known) > 1 else known.pop() if known else Padding.ALL


def to_table(facts: Sequence[LogFacts]) -> pd.DataFrame:
    """One row per log, the columns in the order of LogFacts; `continuity` is called `border`, as in old artefacts."""
    rows = [
        {name: str(value) if isinstance(value, StrEnum) else value for name, value in asdict(each).items()}
        for each in facts
    ]
    table = pd.DataFrame(rows, columns=[field.name for field in fields(LogFacts)])
    return table.rename(columns={"continuity": "border"})
