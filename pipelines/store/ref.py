"""The address of an artefact, `stage/subject/key`, for example `trajectories/Freeway/3fa1c2d4e5f60718`; and pointers.

A pointer is what a name stands for: an artefact, and the digest its manifest had when the name was given. Each is a
small file below `refs`; they are the names that people use, and the roots that `gc` keeps.
"""

import json
import re
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.errors import Members, UsageError, WorldlineError
from pipelines.store.files import writable, write_whole

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
    def from_bytes(cls, raw: bytes, where: object) -> "Pointer":
        """Raises WorldlineError naming `where` for damaged bytes."""
        try:
            pointer = cls(**json.loads(raw))
            pointer.target  # noqa: B018 - an address that cannot be parsed is damage too
        except (ValueError, TypeError, AttributeError, UsageError) as error:
            raise WorldlineError(f"{where} is not a readable pointer ({error}): delete it and make it anew") from error
        return pointer


class Pointers:
    """The names of a store: the files below its `root`/refs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def where(self) -> str:
        """The store's place, as messages name it."""
        return str(self.root)

    def write_pointer(self, name: str, pointer: Pointer) -> None:
        """Let `name` mean `pointer`, atomically. Raises UsageError for a name that is none."""
        path = self.pointer_path(name)
        with writable(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, pointer.to_bytes(), path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}"))

    def forget(self, part: str) -> list[str]:
        """Remove the pointers of which `part` is a part of the name, and return them; what they named stays."""
        found = [name for name in self.names() if part in name.split("/")]
        for name in found:
            self.remove_pointer(name)
        return found

    def pointed(self, name: str) -> Ref | None:
        """What a pointer leads to, where there is one."""
        raw = self.raw_pointer(name)
        return None if raw is None else Pointer.from_bytes(raw, self.pointer_at(name)).target

    def pointers(self, members: Members | None = None) -> dict[str, Ref]:
        """All pointers by name. A damaged one is left out where `members` keeps why, else it raises WorldlineError."""
        return {name: pointer.target for name, pointer in self._read_all(members).items()}

    def pins(self, ref: Ref) -> dict[str, str]:
        """By pointer's name, the manifest digest that `ref` had when it was pointed at."""
        found = self._read_all(Members()).items()
        return {name: each.manifest_sha256 for name, each in found if each.target == ref and each.manifest_sha256}

    def pointer_path(self, name: str) -> Path:
        """The file of a pointer. Raises UsageError for a name that is none."""
        parts = [check_name(part) for part in name.strip("/").split("/")]
        return self.root.joinpath("refs", *parts[:-1], parts[-1] + ".json")

    def _read_all(self, members: Members | None = None) -> dict[str, Pointer]:
        members, found = Members.or_strict(members), {}
        for name in self.names():
            with members.each(name):
                if (raw := self.raw_pointer(name)) is not None:  # nobody removed it meanwhile
                    found[name] = Pointer.from_bytes(raw, self.pointer_at(name))
        return found

    # ---- how pointers lie in the store ----

    def names(self) -> list[str]:
        """The names of all pointers, sorted."""
        base = self.root / "refs"
        paths = (path for path in base.rglob("*.json") if not path.name.startswith("."))
        return sorted(path.relative_to(base).as_posix().removesuffix(".json") for path in paths)

    def raw_pointer(self, name: str) -> bytes | None:
        """The bytes of a pointer; None where there is none. Raises UsageError for a name that is none."""
        path = self.pointer_path(name)
        return path.read_bytes() if path.is_file() else None

    def remove_pointer(self, name: str) -> None:
        """Let a name mean nothing any more."""
        with writable(self.root):
            self.pointer_path(name).unlink()

    def pointer_at(self, name: str) -> str:
        """Where a pointer lies, as messages name it."""
        return str(self.pointer_path(name))
