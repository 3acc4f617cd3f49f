"""The address of an artefact, `stage/subject/key`, for example `trajectories/Freeway/3fa1c2d4e5f60718`; and pointers.

A pointer is what a name stands for: an artefact, and the digest its manifest had when the name was given.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.errors import UsageError, WorldlineError

_PART = re.compile(r"[A-Za-z0-9_+=-][A-Za-z0-9_.+=-]*")

LONGEST = 180  # characters: the whole address becomes one file name, with a suffix, and those end at 255


@dataclass(frozen=True, order=True)
class Ref:
    """Names one immutable artefact. `subject` may have several parts (`Freeway/1`)."""

    stage: str
    subject: str
    key: str

    def __post_init__(self) -> None:
        for part in (self.stage, *self.subject.split("/"), self.key):
            check_name(part)
        if len(str(self)) > LONGEST:
            raise UsageError(f"'{self}' is {len(str(self))} characters long: an address has at most {LONGEST}")
        if self.stage == "refs":
            raise UsageError("'refs' cannot name a stage: the store keeps its pointers there, choose another name")

    def __str__(self) -> str:
        return f"{self.stage}/{self.subject}/{self.key}"

    @classmethod
    def parse(cls, text: str) -> "Ref":
        """Read `stage/subject/key` back. Raises UsageError for fewer than three parts."""
        parts = text.strip("/").split("/")
        if len(parts) < 3:
            raise UsageError(f"'{text}' is no artefact address: write stage/subject/key, as 'worldline list' prints it")
        return cls(parts[0], "/".join(parts[1:-1]), parts[-1])


def check_name(part: str) -> str:
    """Refuse a name that could leave the store's folder or confuse a shell; returns it unchanged."""
    if len(part) > LONGEST:
        raise UsageError(f"'{part[:40]}...' is {len(part)} characters long: a name has at most {LONGEST}")
    if not _PART.fullmatch(part):
        raise UsageError(f"'{part}' cannot name part of an artefact: use letters, digits and _ . + = - only")
    return part


@dataclass(frozen=True)
class Pointer:
    """`manifest_sha256` is empty when the artefact was not there at the time."""

    ref: str
    manifest_sha256: str = ""

    def to_bytes(self) -> bytes:
        """The exact bytes of its file."""
        return (json.dumps(asdict(self)) + "\n").encode()

    @property
    def target(self) -> Ref:
        """The artefact's address."""
        return Ref.parse(self.ref)

    @classmethod
    def read(cls, path: Path) -> "Pointer":
        """Raises WorldlineError for a damaged file."""
        try:
            pointer = cls(**json.loads(path.read_bytes()))
            pointer.target  # noqa: B018 - an address that cannot be parsed is damage too
        except (ValueError, TypeError, AttributeError, UsageError) as error:
            raise WorldlineError(f"{path} is not a readable pointer ({error}): delete it and make it anew") from error
        return pointer
