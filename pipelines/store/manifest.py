"""The last file written of an artefact, and our truth about it: inputs, outputs, checks, cost, machine."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
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
class ParentEntry:
    """One input artefact, pinned by the digest of its manifest."""

    ref: str
    manifest_sha256: str


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
    """Everything an artefact can be traced by. `roots` are what has no parent: remote objects, or ROM and policy."""

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
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """The exact bytes of manifest.json. NumPy numbers become plain ones: a stage should not fail after its work."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True, default=_number) + "\n").encode()

    @property
    def total_bytes(self) -> int:
        """Size of all output files together."""
        return sum(entry.bytes for entry in self.files)

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
        for file in self.files:
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"file '{file.path}' leaves the artefact's folder")
            if type(file.bytes) is not int or not isinstance(file.sha256, str):
                raise ValueError(f"file '{file.path}' needs a size and a hash")


def _number(value: Any) -> Any:
    if hasattr(value, "item"):  # a NumPy scalar, without importing NumPy
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} cannot stand in a manifest: use numbers, text, lists and dicts")


def digest(raw: bytes) -> str:
    """sha256 of a manifest's bytes: the data version of the artefact."""
    return hashlib.sha256(raw).hexdigest()
