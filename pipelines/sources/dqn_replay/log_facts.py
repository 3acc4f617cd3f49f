"""What each log file showed about how it was written. Detected per file, because the pattern is read from sources only.

Kept as evidence.parquet in the `replay` artefact, one row per log, and shown as a table with its metadata.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

import pandas as pd

from pipelines.sources.dqn_replay.log_order import Border, Stretch

UNJOINED = (Border.GAP, Border.DIFFERS, Border.UNPROVEN, Border.BACK, Border.RANGE, Border.DISORDERED)


class Padding(StrEnum):
    """What follows the terminals inside a file (stack size - 1 blank rows, or not)."""

    ALL = "all"
    NONE = "none"
    MIXED = "mixed"
    UNTOLD = "untold"  # no terminal with enough rows behind it


@dataclass(frozen=True)
class Evidence:
    """One log. Counts of rows unless said otherwise.

    `period`, `cursor`: add_count divided by the rows, and the remainder. `reset`: the count was read as cursor only.
    `fresh` rows are in no log before; `overlap` had to equal the log before, `differing` of them do not; `missing` lie
    between the two. `padded`, `bare`: terminals inside the file with and without blank rows behind them. `confirmed`,
    `refuted`: terminals right before a place where rows of two files, or a ring's end and start, were put together,
    with and without the blank rows that this order demands.
    """

    checkpoint: int
    border: Border
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
    padding: Padding = Padding.UNTOLD
    padded: int = 0
    bare: int = 0
    confirmed: int = 0
    refuted: int = 0

    @classmethod
    def of(cls, stretch: Stretch, endings: "Endings", disordered: bool) -> "Evidence":
        """What a stretch and its terminals show."""
        log = stretch.log
        joined = Border.DISORDERED if disordered and stretch.border == Border.JOINED else stretch.border
        return cls(
            checkpoint=log.checkpoint,
            border=joined,
            add_count=log.add_count,
            rows=log.capacity,
            period=log.add_count // log.capacity,
            cursor=log.cursor,
            reset=stretch.reset,
            range_fits=stretch.range_fits,
            fresh=stretch.stop - stretch.first,
            overlap=stretch.overlap,
            differing=stretch.differing,
            missing=stretch.missing,
            padding=endings.padding,
            **asdict(endings),
        )


@dataclass
class Endings:
    """Terminals of one file by what follows them; see Evidence."""

    padded: int = 0
    bare: int = 0
    confirmed: int = 0
    refuted: int = 0

    @property
    def padding(self) -> Padding:
        """The pattern inside the file."""
        if not self.padded and not self.bare:
            return Padding.UNTOLD
        return Padding.MIXED if self.padded and self.bare else Padding.ALL if self.padded else Padding.NONE


def pooled(patterns: Sequence[Padding]) -> Padding:
    """The pattern of all files together: a file that cannot tell takes this one, and ALL where none can.

    ALL is what the collectors' sources say; it joins nothing without blank rows and so errs on the safe side.
    """
    told = set(patterns) - {Padding.UNTOLD}
    return Padding.MIXED if len(told) > 1 else told.pop() if told else Padding.ALL


def table(evidence: Sequence[Evidence]) -> pd.DataFrame:
    """One row per log, the columns in Evidence's order."""
    rows = [
        {name: str(value) if isinstance(value, StrEnum) else value for name, value in asdict(each).items()}
        for each in evidence
    ]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Evidence)])
