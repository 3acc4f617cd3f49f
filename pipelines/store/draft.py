"""An artefact while it is being made: a private folder plus what will go into its manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.store.artefact import Artefact
from pipelines.store.manifest import MANIFEST_NAME, CheckEntry
from pipelines.store.ref import Ref
from pipelines.store.spec import Spec


@dataclass
class Draft:
    """What a stage's build function fills. Nothing in `folder` exists for anyone else until the store commits it.

    `parents` holds the opened, verified parents by address. `scratch` survives a kill: a long stage keeps its own
    resumable state there; it is deleted after the commit.
    """

    spec: Spec
    folder: Path
    scratch: Path
    parents: dict[Ref, Artefact]
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    roots: list[dict[str, Any]] = field(default_factory=list)
    checks: list[CheckEntry] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Where to write one output file; its parent folders are made. Raises ValueError for a name outside."""
        path = self.folder / name
        inside = path.resolve().is_relative_to(self.folder.resolve()) and path.resolve() != self.folder.resolve()
        if not inside or ".." in path.parts:
            raise ValueError(f"'{name}' leaves the artefact's folder {self.folder}: use a relative path without '..'")
        if path == self.folder / MANIFEST_NAME:
            raise ValueError(f"'{name}' is the store's own file: choose another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def check(
        self,
        name: str,
        passed: bool,
        detail: str,
        blocking: bool = False,
        counts: Mapping[str, int] | None = None,
        picture: str = "",
    ) -> None:
        """Record a check of the output; a failed blocking one makes children refuse the artefact.

        `counts` and `picture`, a file of the artefact, are shown with the verdict.
        """
        self.checks.append(CheckEntry(name, bool(passed), blocking, detail, dict(counts or {}), picture))

    def files(self) -> Iterator[Path]:
        """Every file written so far, in a fixed order. Raises ValueError for a link."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_symlink():
                raise ValueError(f"{path} is a link: copy the file, an artefact must not depend on what lies elsewhere")
            if path.is_file():
                yield path
