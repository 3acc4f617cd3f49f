"""TensorBoard's event file of a run, written row by row without its threads: workers may be forked at any time.

One file, whatever the number of restarts: it is made anew from the rows that metrics.jsonl keeps. 40 bytes a number.
"""

import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

FOLDER = "tensorboard"
NAME = "events.out.tfevents.0.worldline"  # found by the middle of its name


class TensorBoardLog:
    """Appends rows; `kept` are those of the run so far, with their times before now."""

    def __init__(self, folder: Path, kept: list[dict[str, Any]]) -> None:
        folder.mkdir(exist_ok=True)
        self._file = (folder / NAME).open("wb")
        self._records = RecordWriter(self._file)
        self._started = time.time() - (kept[-1]["seconds"] if kept else 0.0)
        self._add(Event(wall_time=self._started, file_version="brain.Event:2"))
        for row in kept:
            self.write(row)

    def write(self, row: dict[str, Any]) -> None:
        """Every number of the row, as `phase/name` at its step; on its way to disk when this returns."""
        values = [
            Summary.Value(tag=f"{row['phase']}/{name}", simple_value=value)
            for name, value in row.items()
            if name not in ("phase", "step", "seconds")
        ]
        self._add(Event(wall_time=self._started + row["seconds"], step=row["step"], summary=Summary(value=values)))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _add(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()
