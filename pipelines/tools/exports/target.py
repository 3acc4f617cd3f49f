"""Where an export goes: written aside, read back, renamed; beside it a small file that keeps the lineage.

`Pong.h5` gets `Pong.h5.worldline.json`: the artefact it came from, that artefact's digest, and the options. A kill
leaves at most a hidden `.Pong.h5.<letters>.partial`, which may be deleted.
"""

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError
from pipelines.store.artefact import Artefact
from pipelines.store.files import writable

SUFFIX = ".worldline.json"


@dataclass(frozen=True)
class Origin:
    """What an export came from; goes into the file beside it, and into its attributes where the format has some."""

    ref: str
    manifest_sha256: str
    format: str
    options: dict[str, Any]

    @classmethod
    def of(cls, artefact: Artefact, format: str, **options: Any) -> "Origin":
        """Of an artefact of the store."""
        return cls(str(artefact.ref), artefact.digest, format, options)

    def record(self) -> dict[str, Any]:
        """As JSON knows it."""
        return asdict(self)


@contextmanager
def target(path: Path, origin: Origin, overwrite: bool) -> Iterator[Path]:
    """Yields where to write the file or folder that shall become `path`; it does when the body ends without an error.

    Raises UsageError when something stands there, unless `overwrite` is set and it is an older export of ours;
    WorldlineError for a full disk or a folder that is not ours.
    """
    mark = uuid.uuid4().hex[:8]
    ends = ("partial", "note", "old", "oldnote")
    aside, noted, old, old_note = (path.with_name(f".{path.name}.{mark}.{end}") for end in ends)
    beside = path.with_name(path.name + SUFFIX)
    with writable(path.parent, "folder", "choose another place"):
        if _stands(path) and not overwrite:
            raise UsageError(f"{path} is there and not empty: add --overwrite or choose another place")
        if _stands(path) and not beside.is_file():
            raise UsageError(
                f"{path} is no export of ours (no {beside.name} beside it) and is not overwritten: move it away or "
                "choose another place"
            )
        try:
            yield aside
            noted.write_text(json.dumps(origin.record(), indent=1, sort_keys=True) + "\n")
            try:
                _move(beside, old_note)  # the old lineage must not stand beside the new data
                _move(path, old)
                aside.rename(path)
                noted.rename(beside)
            except BaseException:  # what stood there stands there again, whatever failed
                if old.exists():
                    _remove(path)
                _move(old, path)
                _move(old_note, beside)
                raise
        finally:
            for left in (aside, noted, old, old_note):
                _remove(left)


def _stands(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists() and path.stat().st_size > 0


def _move(path: Path, to: Path) -> None:
    if path.exists():
        path.rename(to)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
