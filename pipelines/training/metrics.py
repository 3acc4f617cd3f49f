"""What a run logs: metrics.jsonl always, TensorBoard's events beside it, Weights & Biases where asked for.

metrics.jsonl has one row per logged step, {"phase", "step", "seconds", losses...}; it is the source of every curve.
After a restart every other place gets the rows that metrics.jsonl kept: a killed process may have told it none.
TensorBoard's file is made anew from them; it is written without its threads, as workers may be forked at any time.
W&B is an extra: `pip install 'worldline[wandb]'`, then `loop.wandb=PROJECT`; WANDB_MODE=offline keeps everything in
WORLDLINE_HOME/wandb (or WANDB_DIR), and `wandb sync` sends it later: of a run that was resumed, the newest file alone.
Watch a run: `tensorboard --logdir STORE/.scratch`; later the artefact's folder does.
"""

import importlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from pipelines import home
from pipelines.errors import UsageError, WorldlineError
from pipelines.redact import one_line
from pipelines.store.files import write_whole

ROWS = "metrics.jsonl"

FOLDER = "tensorboard"

NAME = "events.out.tfevents.0.worldline"  # found by the middle of its name

PICTURES = "pictures"  # a run of its own beside the curves

MOST_SHOWN = 20  # steps of pictures; half a megabyte each and more

PLAY, CHECK = "play", "check"  # phases of rows that tell of a turn of play, and of a checkpoint that was kept


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


def show_pictures(folder: Path, step: int, files: Mapping[str, Path]) -> None:
    """Tell TensorBoard of pictures and films (PNG, GIF) by name, at a step, once however often that is made again.

    A file of events a step in `folder`/tensorboard/pictures: TensorBoard reads one after the other, by their names. Of
    more than `MOST_SHOWN` steps every second one is dropped, but for the first and the last: they reach as far back.
    """
    if not files:
        return
    values = []
    for tag, path in files.items():
        with Image.open(path) as picture:
            image = Summary.Image(
                height=picture.height, width=picture.width, colorspace=3, encoded_image_string=path.read_bytes()
            )
        values.append(Summary.Value(tag=tag, image=image))
    place = folder / FOLDER / PICTURES / _pictures_of(step)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{step}")
    with aside.open("wb") as file:
        records = RecordWriter(file)
        records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        records.write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)).SerializeToString())
    aside.replace(place)
    steps = sorted(place.parent.glob("events.*"))
    for path in steps[1:-1:2] if len(steps) > MOST_SHOWN else ():
        path.unlink()


def pictures_in(folder: Path) -> dict[str, Path]:
    """Pictures and films that lie in a folder, by their names."""
    found = (path for path in folder.iterdir() if path.suffix in (".png", ".gif")) if folder.is_dir() else ()
    return {path.stem: path for path in sorted(found)}


def forget_pictures(folder: Path, step: int) -> None:
    """Drop what a resumed run will show again, behind a step."""
    for path in (folder / FOLDER / PICTURES).glob("events.*"):
        if path.name > _pictures_of(step):
            path.unlink()


def _pictures_of(step: int) -> str:
    """A name that sorts by the step."""
    return f"events.out.tfevents.{step:016}.worldline"


class WandbLog:
    """Sends rows to the run that is named after the scratch folder; a resumed run goes on in it.

    `kept` are the rows so far: those that W&B does not have are sent first. Offline it has none of another process.
    """

    def __init__(self, project: str, folder: Path, kept: list[dict[str, Any]]) -> None:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise UsageError(
                f"loop.wandb={project} needs Weights & Biases, which is not installed: pip install 'worldline[wandb]'"
            ) from error
        where = os.environ.get("WANDB_DIR") or str(home.home())
        try:
            self._run = wandb.init(project=project, id=folder.name.replace("@", "-"), dir=where, resume="allow")
        except wandb.Error as error:
            raise WorldlineError(
                f"Weights & Biases does not take loop.wandb={project} ({one_line(error)[:200]}): log in "
                "by 'wandb login', or set WANDB_MODE=offline"
            ) from error
        for row in kept:
            if row["step"] >= self._run.step:  # behind the last step that a server has; 0 where nothing is known
                self.write(row)

    def write(self, row: dict[str, Any]) -> None:
        """Every number of the row, as `phase/name` at its step."""
        named = {f"{row['phase']}/{name}": row[name] for name in row if name not in ("phase", "step", "seconds")}
        self._run.log(named, step=row["step"])

    def close(self) -> None:
        """Wait until all is sent, or written."""
        self._run.finish()


class Sink(Protocol):
    """Takes rows."""

    def write(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Metrics:
    """All places that the rows go to; none on ranks that are not the first. Closed on leaving its `with`."""

    sinks: tuple[Sink, ...] = ()
    path: Path = Path()
    turns: frozenset[int] = frozenset()  # of play, that the files tell of already
    checks: frozenset[int] = frozenset()  # steps of kept checkpoints that they tell of

    @classmethod
    def open(cls, path: Path, position: int = 0, project: str = "") -> "Metrics":
        """Go on at `position` in the files beside `path`. Raises UsageError for a W&B project without W&B."""
        log = MetricsLog(path, position)
        kept = read(path)
        sinks: list[Sink] = [log, TensorBoardLog(path.parent / FOLDER, kept)]
        if project:
            sinks.append(WandbLog(project, path.parent, kept))
        turns = frozenset(row["turn"] for row in kept if "turn" in row)
        return cls(tuple(sinks), path, turns, frozenset(row["step"] for row in kept if row["phase"] == CHECK))

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
        rows = "".join(json.dumps(row) + "\n" for row in kept)  # killed, or out of room, between: the old rows stand
        write_whole(path, rows.encode(), path.with_name(f".{path.name}.{os.getpid()}"))

    def write(self, row: dict[str, Any]) -> None:
        """Add one row; it is on the disk when this returns, as the state that is saved later relies on it."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

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
    """Each loss as the mean of its last logged values: one number for tables. Rows of play and checks hold none."""
    rows = [row for row in rows if row["phase"] not in (PLAY, CHECK)]
    names = sorted({name for row in rows for name in row} - {"phase", "step", "seconds"})
    found = {}
    for name in names:
        values = [row[name] for row in rows if name in row][-last:]
        found[name] = round(sum(values) / len(values), 6)
    return found
