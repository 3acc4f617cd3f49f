"""metrics.jsonl: one row per logged step, {"phase", "step", "seconds", losses...}; the source of every curve."""

import json
from pathlib import Path
from typing import Any


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
