"""The last file written of an artefact, and our truth about it: inputs, outputs, checks, cost, machine.

Read one: `Manifest.from_bytes(path.read_bytes(), str(path))`, or `Store.find(ref).manifest`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, cast, get_origin

from pipelines.errors import UsageError, WorldlineError
from pipelines.store.ref import Ref

MANIFEST_NAME = "manifest.json"

FORMAT = 1


@dataclass(frozen=True)
class FileEntry:
    """One output file: path inside the artefact, size and sha256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PartEntry:
    """What a child may read of an artefact without the rest: some of its files, or arrays inside of them.

    `content` is a digest that the stage computed over arrays; it is empty where whole files are the part. `sha256` is
    the hash of the part: it covers `content` and the names and hashes of `files`.
    """

    sha256: str
    files: tuple[str, ...] = ()
    content: str = ""

    @classmethod
    def of(cls, files: Iterable[FileEntry], content: str = "") -> "PartEntry":
        """The part that consists of `files`, in any order, and of what `content` is a digest of."""
        listed = sorted((entry.path, entry.sha256) for entry in files)
        text = json.dumps([content, listed], separators=(",", ":"))
        return cls(hashlib.sha256(text.encode()).hexdigest(), tuple(path for path, _ in listed), content)


@dataclass(frozen=True)
class ParentEntry:
    """One input artefact, pinned by the digest of its manifest; by the hash of a part where only that was read.

    `content_sha256` covers its files and nothing of when and where they were made; older manifests lack it.
    """

    ref: str
    manifest_sha256: str
    part: str = ""
    part_sha256: str = ""
    content_sha256: str = ""

    def same_input(self, other: "ParentEntry") -> bool:
        """Whether both stand for the same bytes: the same part wherever it lies, or the same artefact."""
        if self.part and (self.part, self.part_sha256) == (other.part, other.part_sha256):
            return True
        return (self.ref, self.manifest_sha256) == (other.ref, other.manifest_sha256)

    @property
    def pin(self) -> str:
        """The hash of what was read; of the manifest where nothing narrower is known."""
        return self.part_sha256 or self.content_sha256 or self.manifest_sha256

    def difference(self, found: "Manifest", found_digest: str) -> str:
        """How what was read of the parent differs from the artefact that stands there now; "" where it is the same.

        An artefact that was made again with the same bytes is the same parent.
        """
        if self.part:
            part = found.parts.get(self.part)
            if part is None:
                return f"it has no part '{self.part}'"
            if part.sha256 == self.part_sha256:
                return ""
            return f"its part '{self.part}' was {self.part_sha256[:12]}..., it is {part.sha256[:12]}..."
        if found_digest == self.manifest_sha256:
            return ""
        if not self.content_sha256:
            return f"its manifest was {self.manifest_sha256[:12]}..., it is {found_digest[:12]}..."
        if self.content_sha256 == found.content:
            return ""
        return f"its content was {self.content_sha256[:12]}..., it is {found.content[:12]}..."


@dataclass(frozen=True)
class CheckEntry:
    """What a stage verified about its own output. A failed blocking check makes every child refuse the artefact.

    `counts` are the numbers behind the verdict; `picture` is a file of the artefact that shows them, or empty.
    """

    name: str
    passed: bool
    blocking: bool
    detail: str
    counts: dict[str, int] = field(default_factory=dict)
    picture: str = ""


@dataclass(frozen=True)
class Manifest:
    """Everything an artefact can be traced by.

    `roots` are what has no parent: remote objects, or ROM and policy. `parts` names what a child may read alone.
    `adopted` is the address of the artefact whose files these are, where nothing was computed; libraries, machine and
    commit are then those that made the files.
    """

    stage: str
    subject: str
    key: str
    code_version: str
    config: dict[str, Any]
    parents: tuple[ParentEntry, ...]
    files: tuple[FileEntry, ...]
    roots: tuple[dict[str, Any], ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    checks: tuple[CheckEntry, ...] = ()
    cost: dict[str, float] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    git_commit: str = ""
    created: str = ""
    parts: dict[str, PartEntry] = field(default_factory=dict)
    adopted: str = ""
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """The exact bytes of manifest.json. NumPy numbers become plain ones: a stage should not fail after its work.

        Fields that came after artefacts existed are left out while they are empty, so that older releases read it.
        """
        data = asdict(self)
        data = {name: value for name, value in data.items() if value or name not in ("parts", "adopted")}
        data["parents"] = [
            {name: value for name, value in entry.items() if value or name in ("ref", "manifest_sha256")}
            for entry in data["parents"]
        ]
        return (json.dumps(data, indent=1, sort_keys=True, default=_number) + "\n").encode()

    @property
    def total_bytes(self) -> int:
        """Size of all output files together."""
        return sum(entry.bytes for entry in self.files)

    @cached_property
    def content(self) -> str:
        """Hash of the names and hashes of all files: equal for two artefacts that hold the same bytes."""
        return PartEntry.of(self.files).sha256

    @classmethod
    def from_bytes(cls, raw: bytes, where: str) -> "Manifest":
        """Parse manifest.json; raises WorldlineError naming `where` when it is damaged or of another format."""
        try:
            data = json.loads(raw)
            if data["format"] != FORMAT:
                raise WorldlineError(
                    f"{where} has manifest format {data['format']}, this version reads {FORMAT}: upgrade Worldline"
                )
            data["parents"] = tuple(ParentEntry(**entry) for entry in data["parents"])
            data["files"] = tuple(FileEntry(**entry) for entry in data["files"])
            data["checks"] = tuple(CheckEntry(**entry) for entry in data["checks"])
            data["roots"] = tuple(data["roots"])
            data["parts"] = {name: _part(entry) for name, entry in data.get("parts", {}).items()}
            manifest = cls(**data)
            manifest.check()
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
            raise WorldlineError(
                f"{where} is not a readable manifest ({error}): delete that artefact's folder and make it again"
            ) from error

    def check(self) -> None:
        """Raise ValueError or UsageError unless every field has its type, parents are addresses and no path leaves."""
        for entry in fields(self):
            kind = get_origin(entry.type) or entry.type
            if not isinstance(getattr(self, entry.name), cast(type, kind)):
                raise ValueError(f"field '{entry.name}' must be {cast(type, kind).__name__}")
        for parent in self.parents:
            Ref.parse(parent.ref)
            if not all(isinstance(text, str) for text in (parent.part, parent.part_sha256, parent.content_sha256)):
                raise ValueError(f"parent '{parent.ref}' needs the name and the hash of its part, or of all, as text")
        for file in self.files:
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"file '{file.path}' leaves the artefact's folder")
            if type(file.bytes) is not int or not isinstance(file.sha256, str):
                raise ValueError(f"file '{file.path}' needs a size and a hash")
        listed = {file.path for file in self.files}
        for name, part in self.parts.items():
            if not isinstance(part.sha256, str) or not isinstance(part.content, str):
                raise ValueError(f"part '{name}' needs a hash")
            if not listed.issuperset(part.files):
                raise ValueError(f"part '{name}' holds a file that the manifest does not list")

    def part_faults(self) -> list[str]:
        """The parts whose hash is not that of their files' hashes, in words. Empty when all agree."""
        entries = {entry.path: entry for entry in self.files}
        return [
            f"part '{name}' has another hash than its files give"
            for name, part in self.parts.items()
            if part != PartEntry.of((entries[path] for path in part.files), part.content)
        ]


def _part(entry: dict[str, Any]) -> PartEntry:
    part = PartEntry(**entry)
    return PartEntry(part.sha256, tuple(part.files), part.content)


def _number(value: Any) -> Any:
    if hasattr(value, "item"):  # a NumPy scalar, without importing NumPy
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} cannot stand in a manifest: use numbers, text, lists and dicts")


def digest(raw: bytes) -> str:
    """sha256 of a manifest's bytes: the data version of the artefact."""
    return hashlib.sha256(raw).hexdigest()
