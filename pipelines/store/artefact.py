"""An artefact: while it is being made (`Draft`), finished on disk (`Artefact`), as what a stage returns (`Report`).

A stage gets a `Draft` from `Store.produce(spec, build)`, whose `build(draft)` writes `draft.path("name")`.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines.errors import WorldlineError, not_now
from pipelines.progress import size
from pipelines.redact import redact
from pipelines.store.files import sha256_of
from pipelines.store.manifest import MANIFEST_NAME, CheckEntry, Manifest
from pipelines.store.ref import Ref, check_name
from pipelines.store.stage_config import Spec


class Streamed(Protocol):
    """A file that is not here. May be pickled."""

    def open(self) -> io.RawIOBase:
        """The file, read only; reads may seek. Each process opens its own."""


@dataclass(frozen=True)
class Artefact:
    """Immutable. Read its files through `path(name)`, or all of them in `folder`."""

    ref: Ref
    place: Path
    manifest: Manifest
    digest: str

    @property
    def folder(self) -> Path:
        """The folder that holds all its files."""
        return self.place

    @property
    def where(self) -> str:
        """What to delete so that it is gone."""
        return str(self.place)

    @property
    def manifest_at(self) -> str:
        """Where its manifest lies."""
        return str(self.place / MANIFEST_NAME)

    def path(self, name: str) -> Path:
        """Absolute path of one of its files; raises WorldlineError when the manifest does not list it."""
        if all(entry.path != name for entry in self.manifest.files):
            raise WorldlineError(f"{self.ref} has no file '{name}': it holds {', '.join(self.names())}")
        return self.place / name

    def source(self, name: str) -> "Path | Streamed":
        """For readers that seek: its path, or where it is too large to have here, a way to open it where it lies."""
        return self.path(name)

    def sources(self, folder: str) -> "Path | Mapping[str, Streamed]":
        """The same of all its files below a folder: that folder, or by their names below it how to open each."""
        return self.place / folder

    def names(self) -> list[str]:
        """The files the manifest lists."""
        return [entry.path for entry in self.manifest.files]

    def faults(self, rehash: bool) -> list[str]:
        """What is wrong with the files: missing, another size, another hash (only when `rehash`). Empty when sound.

        Raises MayPass for a file that is there and cannot be read now.
        """
        found = []
        for entry in self.manifest.files:
            path = self.place / entry.path
            try:
                if not path.is_file():
                    found.append(f"{path}: no file has that name" if os.path.lexists(path) else f"{path}: missing")
                elif path.stat().st_size != entry.bytes:
                    found.append(f"{path}: {path.stat().st_size} bytes, the manifest says {entry.bytes}")
                elif rehash and sha256_of(path) != entry.sha256:
                    found.append(f"{path}: sha256 differs from the manifest")
            except OSError as error:
                raise not_now(path, error) from error
        return found

    def unlisted(self) -> list[str]:
        """What lies among its files and is not one of them."""
        listed = {*self.names(), MANIFEST_NAME}
        paths = sorted(path for path in self.place.rglob("*") if not path.is_dir())
        return [str(path) for path in paths if path.relative_to(self.place).as_posix() not in listed]


@dataclass
class Draft:
    """What a stage's build function fills. Nothing in `folder` exists for anyone else until the store commits it.

    `parents` holds the opened, verified parents by address. `scratch` survives a kill: a long stage keeps its own
    resumable state there; it is deleted after the commit. What is written aside there to be renamed has a dot before
    its name: the next run sweeps it away.
    """

    spec: Spec
    folder: Path
    scratch: Path
    parents: dict[Ref, Artefact]
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    roots: list[dict[str, Any]] = field(default_factory=list)
    checks: list[CheckEntry] = field(default_factory=list)
    parts: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)  # name -> files, digest

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
        self.checks.append(CheckEntry(name, bool(passed), blocking, redact(detail), dict(counts or {}), picture))

    def part(self, name: str, files: Sequence[str] = (), digest: str = "") -> None:
        """Name a part of the artefact, which a child may have as its parent: these files of it, or arrays.

        files: names as given to `path`. digest: hash of the arrays that belong to the part, computed by the stage.
        Raises ValueError for a part of nothing.
        """
        if not files and not digest:
            raise ValueError(f"Part '{name}' consists of nothing: name its files, or give a digest of its arrays")
        self.parts[check_name(name)] = tuple(files), digest

    def files(self) -> Iterator[Path]:
        """Every file written so far, in a fixed order. Raises ValueError for a link."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_symlink():
                raise ValueError(f"{path} is a link: copy the file, an artefact must not depend on what lies elsewhere")
            if path.is_file():
                yield path


@dataclass(frozen=True)
class Report:
    """What `Store.produce` did.

    `skipped` is True when nothing was computed: an artefact with the same key stood there already, or the files of an
    equal one were `adopted`. `other` says how what stands differs from what its recipe would make now, where it does.
    """

    artefact: Artefact
    skipped: bool
    adopted: bool = False
    other: str = ""

    def __str__(self) -> str:
        manifest = self.artefact.manifest
        counts = ", ".join(f"{value:,} {name}" for name, value in manifest.counts.items())
        room = size(manifest.total_bytes)
        attempts = f" in {manifest.cost['attempts']:.0f} attempts" if "attempts" in manifest.cost else ""
        how = f"made in {manifest.cost['seconds']:.1f} s{attempts} ({room}; {counts})"
        if self.adopted:
            how = f"adopted from {manifest.adopted} ({room}; {counts}), same config, code version and parts of parents"
        elif self.other:
            how = f"already there ({room}; {counts}), made before: {self.other}; it is kept, --remake makes it anew"
        elif self.skipped:
            how = f"already there ({room}; {counts}), same config, code version and parents"
        return "\n".join([f"{self.artefact.ref}: {how}", *self.findings])

    @property
    def blocked(self) -> bool:
        """Whether a blocking check failed, so that every child will refuse the artefact."""
        return any(check.blocking and not check.passed for check in self.artefact.manifest.checks)

    @property
    def findings(self) -> list[str]:
        """A line for each check that failed, so that nobody has to look for it in the manifest."""
        return [
            f"  {'failed, nothing may be made from this' if check.blocking else 'note'}: {check.name}, {check.detail}"
            for check in self.artefact.manifest.checks
            if not check.passed
        ]
