"""Facts about each log file: how it continues the log before, and what follows its terminals.

How the collectors wrote is known from their sources only, so it is detected in every file anew. The facts are kept as
evidence.parquet in the `replay` artefact, one row per log, and Dagster shows them as a table.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

import pandas as pd

from pipelines.sources.dqn_replay.log_order import Continuity, LogSpan

UNJOINED = (
    Continuity.GAP,
    Continuity.DIFFERS,
    Continuity.UNPROVEN,
    Continuity.BACK,
    Continuity.RANGE,
    Continuity.DISORDERED,
)


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
    cursor only. fresh: rows that no log before holds. overlap: rows that had to equal those of the log before;
    `differing` of them do not. missing: rows between the two logs. padded, bare: terminals inside the file with and
    without blank rows behind them. confirmed, refuted: terminals right before a place where rows of two files, or the
    end and the start of a ring, were joined, with and without the blank rows that this order demands.
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
            period=log.add_count // log.capacity,
            cursor=log.cursor,
            reset=span.reset,
            range_fits=span.range_fits,
            fresh=span.stop - span.first,
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
