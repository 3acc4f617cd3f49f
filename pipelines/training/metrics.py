"""What a run logs: metrics.jsonl always, TensorBoard's events beside it, Weights & Biases where asked for.

metrics.jsonl has one row per logged step, {"phase", "step", "seconds", losses...}; it is the source of every curve.
A row takes 0.1 ms. Watch a run: `tensorboard --logdir STORE/.scratch`; later the artefact's folder does.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipelines.training.tensorboard import FOLDER, TensorBoardLog
from pipelines.training.wandb import WandbLog


class Sink(Protocol):
    """Takes rows."""

    def write(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Metrics:
    """All places that the rows go to; none on ranks that are not the first. Closed on leaving its `with`."""

    sinks: tuple[Sink, ...] = ()
    path: Path = Path()

    @classmethod
    def open(cls, path: Path, position: int = 0, project: str = "") -> "Metrics":
        """Go on at `position` in the files beside `path`. Raises UsageError for a W&B project without W&B."""
        log = MetricsLog(path, position)
        sinks: list[Sink] = [log, TensorBoardLog(path.parent / FOLDER, read(path))]
        if project:
            sinks.append(WandbLog(project, path.parent))
        return cls(tuple(sinks), path)

    def write(self, row: dict[str, Any]) -> None:
        """Add one row everywhere."""
        for sink in self.sinks:
            sink.write(row)

    def copy_to(self, path: Path) -> None:
        """The rows to `path`, TensorBoard's folder beside it."""
        shutil.copyfile(self.path, path)
        shutil.copytree(self.path.parent / FOLDER, path.parent / FOLDER, dirs_exist_ok=True)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        for sink in self.sinks:
            sink.close()


class MetricsLog:
    """Appends rows. A run that resumes at `position` first drops the rows it is about to write again."""

    def __init__(self, path: Path, position: int = 0) -> None:
        kept = [row for row in read(path) if row["step"] <= position] if path.exists() else []
        self.path = path
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def write(self, row: dict[str, Any]) -> None:
        """Add one row; it is on its way to disk when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Every row is written already."""


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows; the half-written last line of a killed run is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def final(rows: list[dict[str, Any]], last: int = 10) -> dict[str, float]:
    """Each loss as the mean of its last logged values: one number for tables."""
    names = sorted({name for row in rows for name in row} - {"phase", "step", "seconds"})
    found = {}
    for name in names:
        values = [row[name] for row in rows if name in row][-last:]
        found[name] = round(sum(values) / len(values), 6)
    return found
