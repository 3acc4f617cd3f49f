"""Exports an artefact into another layout: written aside, read back, renamed, with its lineage beside it.

Use: `export(artefact, ZarrStore(trajectories), folder)`; the command is `worldline export`.
"""

from pathlib import Path
from typing import Any, Protocol

from pipelines.progress import Advance, track
from pipelines.store.artefact import Artefact
from pipelines.tools.exports.exported import Exported
from pipelines.tools.exports.target import Origin, target


class Export(Protocol):
    """One layout, ready to be written: JowaH5, ZarrStore, Webdataset or SegmentTable."""

    @property
    def form(self) -> str:
        """The layout's name."""

    @property
    def name(self) -> str:
        """Of the file or folder to write."""

    @property
    def size(self) -> int:
        """How far write and read_back each advance."""

    @property
    def unit(self) -> str:
        """What they advance by."""

    @property
    def options(self) -> dict[str, Any]:
        """What the bytes depend on besides the source."""

    @property
    def counts(self) -> dict[str, int]:
        """What goes out, by name."""

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        """Write the file or folder `path`, which is not there yet."""

    def read_back(self, path: Path, advance: Advance) -> None:
        """Read it with the reader that its users have. Raises WorldlineError unless it equals the source."""


def export(artefact: Artefact, what: Export, folder: Path, overwrite: bool = False) -> Exported:
    """Write `folder/what.name`. Raises UsageError when that stands there (unless `overwrite`), WorldlineError for a
    full disk, a folder that is not ours, or a copy that does not read back."""
    path = folder / what.name
    origin = Origin.of(artefact, what.form, **what.options)
    with target(path, origin, overwrite) as aside:
        with track(f"Export {path.name}", what.size, what.unit) as advance:
            what.write(aside, origin, advance)
        with track(f"Read {path.name} back", what.size, what.unit) as advance:
            what.read_back(aside, advance)
    return Exported(str(artefact.ref), path, what.counts)
