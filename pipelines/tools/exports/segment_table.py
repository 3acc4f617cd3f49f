"""The index of segments as CSV or Parquet, as JOWA writes it: Episode, Start and End index, Environment.

From `segments` as its stage cut them, or derived by arithmetic from `trajectories`, right- or left-padded. JOWA's
dataset pads by what a segment exceeds its episode, so here an end is always its start + length: it may lie behind the
episode, as a left-padded start may be negative. (Our own index of an artefact ends segments with their episode.)
Measured, reading back included: 1.5 M segments per CPU second as CSV (23 bytes
each), 13 M as Parquet (0.6 bytes).
Run: `worldline export segments segments/Pong --to csv --out Pong.csv`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.batches.segments import COLUMNS, ENVIRONMENT, to_table
from pipelines.errors import unknown
from pipelines.progress import Advance
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.target import Origin

FORMS = ("csv", "parquet")


@dataclass(frozen=True)
class SegmentTable:
    """An `Export` of one game's index (S, 3), as `Segmentation` has it; `cut` says length, stride and padding."""

    index: NDArray[np.int64]
    game: str
    form: str
    name: str
    cut: dict[str, Any]

    unit: ClassVar[str] = "segments"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown("format", self.form, FORMS, "formats for segments")

    @property
    def size(self) -> int:
        return len(self.index)

    @property
    def options(self) -> dict[str, Any]:
        return self.cut

    @property
    def counts(self) -> dict[str, int]:
        return {"segments": len(self.index)}

    @property
    def rows(self) -> NDArray[np.int64]:
        """(S, 3) episode, start, end as JOWA has them."""
        episodes, starts, _ = self.index.T
        return np.stack([episodes, starts, starts + self.cut["length"]], axis=1)

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        table = to_table(self.rows, self.game)
        if self.form == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)
        advance(len(table))

    def read_back(self, path: Path, advance: Advance) -> None:
        found = pd.read_csv(path) if self.form == "csv" else pd.read_parquet(path)
        if tuple(found.columns) != COLUMNS or not np.array_equal(found[list(COLUMNS[:3])].to_numpy(), self.rows):
            raise differs("the index")
        if not (found[ENVIRONMENT] == self.game).all():
            raise differs(ENVIRONMENT)
        advance(len(found))
