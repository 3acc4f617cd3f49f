"""The artefact store: a folder in which nothing exists until its manifest is written.

`produce` is the only way in: it waits for the key's lock, skips when the artefact stands already, verifies the
parents, lets the stage write into a private folder, hashes and syncs every file, writes the manifest last and
renames the folder into place. A process killed at any point leaves a private folder that the next holder of the
lock sweeps away. Hashing costs about 1 s per GB written, and as much again for each parent up to 2 GiB.
"""

import errno
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import WorldlineError
from pipelines.progress import say
from pipelines.store import machine
from pipelines.store.artefact import Artefact
from pipelines.store.cost import CostMeter
from pipelines.store.draft import Draft
from pipelines.store.hashing import sha256_of
from pipelines.store.manifest import MANIFEST_NAME, FileEntry, Manifest, ParentEntry, digest
from pipelines.store.ref import Ref, check_name
from pipelines.store.report import Report
from pipelines.store.spec import Spec

REHASH_PARENTS_UP_TO = 2 << 30  # bytes; larger parents are checked by size here and by `worldline lineage --verify`
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PRIVATE = (".partial", ".locks", ".scratch", "refs")


class Store:
    """Artefacts under one root folder: `root/<stage>/<subject>/<key>/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # ---- reading ----

    def find(self, ref: Ref) -> Artefact | None:
        """The artefact at `ref`, or None when its manifest is not there. Raises WorldlineError for a damaged one."""
        folder = self._folder(ref)
        path = folder / MANIFEST_NAME
        try:
            raw = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        manifest = Manifest.from_bytes(raw, str(path))
        if (manifest.stage, manifest.subject, manifest.key) != (ref.stage, ref.subject, ref.key):
            raise WorldlineError(
                f"{path} describes {manifest.stage}/{manifest.subject}/{manifest.key}: folders must not be renamed; "
                "move it back or delete it"
            )
        return Artefact(ref, folder, manifest, digest(raw))

    def open(self, ref: Ref) -> Artefact:
        """The artefact at `ref`, verified for use as a parent: present, files whole, no failed blocking check."""
        artefact = self.find(ref)
        if artefact is None:
            raise WorldlineError(
                f"{ref} is not in the store {self.root}: make it first (worldline materialize --until {ref.stage})"
            )
        rehash = artefact.manifest.total_bytes <= REHASH_PARENTS_UP_TO
        if faults := artefact.faults(rehash):
            raise WorldlineError(
                f"{ref} is damaged: {faults[0]}; delete {artefact.folder} and make it again "
                f"(worldline materialize --until {ref.stage})"
            )
        for check in artefact.manifest.checks:
            if check.blocking and not check.passed:
                raise WorldlineError(
                    f"{ref} failed its check '{check.name}' ({check.detail}): nothing may be built on it; "
                    "mend the source and make it again"
                )
        return artefact

    def artefacts(self) -> Iterator[Artefact]:
        """Every finished artefact, in a fixed order."""
        for path in sorted(self.root.rglob(MANIFEST_NAME)):
            parts = path.relative_to(self.root).parts[:-1]
            if len(parts) >= 3 and parts[0] not in PRIVATE:
                found = self.find(Ref(parts[0], "/".join(parts[1:-1]), parts[-1]))
                if found is not None:
                    yield found

    # ---- writing ----

    def produce(self, spec: Spec, build: Callable[[Draft], None]) -> Report:
        """Make the artefact of `spec` with `build`, or find it. The stages' one door; see the file's docstring."""
        ref = spec.ref
        if (found := self.find(ref)) is not None:
            return Report(found, skipped=True)
        with self._writable(), self._lock(ref):
            if (found := self.find(ref)) is not None:  # another process finished it while this one waited
                return Report(found, skipped=True)
            meter = CostMeter()
            self._sweep(ref)
            parents = {parent: self.open(parent) for parent in spec.parents}
            scratch = self.root / ".scratch" / _flat(ref)
            scratch.mkdir(parents=True, exist_ok=True)
            folder = self.root / ".partial" / f"{_flat(ref)}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
            folder.mkdir(parents=True)
            try:
                draft = Draft(spec, folder, scratch, parents)
                build(draft)
                artefact = self._commit(draft, meter)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(scratch, ignore_errors=True)
            return Report(artefact, skipped=False)

    def _commit(self, draft: Draft, meter: CostMeter) -> Artefact:
        files = []
        for path in draft.files():
            _sync(path)
            name = path.relative_to(draft.folder).as_posix()
            files.append(FileEntry(name, path.stat().st_size, sha256_of(path)))
        if not files:
            raise WorldlineError(f"{draft.spec.ref} produced no file: this is a fault of the stage, please report it")
        cost = meter.read()
        cost["bytes_in"] = float(sum(parent.manifest.total_bytes for parent in draft.parents.values()))
        cost["bytes_out"] = float(sum(entry.bytes for entry in files))
        manifest = Manifest(
            stage=draft.spec.stage,
            subject=draft.spec.subject,
            key=draft.spec.key,
            code_version=draft.spec.code_version,
            config=draft.spec.config,
            parents=tuple(ParentEntry(str(ref), parent.digest) for ref, parent in draft.parents.items()),
            files=tuple(files),
            roots=tuple(draft.roots),
            counts=draft.counts,
            metrics=draft.metrics,
            checks=tuple(draft.checks),
            cost=cost,
            libraries=machine.library_versions(),
            machine=machine.describe(),
            git_commit=machine.git_commit(),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        raw = manifest.to_bytes()
        (draft.folder / MANIFEST_NAME).write_bytes(raw)
        _sync(draft.folder / MANIFEST_NAME)
        _sync(draft.folder)
        target = self._folder(draft.spec.ref)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # a folder without a manifest: someone deleted it, or copied half of it
            shutil.rmtree(target)
        draft.folder.rename(target)
        _sync(target.parent)
        return Artefact(draft.spec.ref, target, manifest, digest(raw))

    # ---- pointers: the names people use, and the roots that `gc` keeps ----

    def point(self, name: str, ref: Ref) -> None:
        """Let `name` (`scores/demo-1a2b3c4d/Freeway`) mean `ref`. Atomic; the only thing here that may change."""
        path = self._pointer(name)
        with self._writable():
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            aside.write_text(json.dumps({"ref": str(ref)}) + "\n")
            aside.replace(path)

    def resolve(self, name: str) -> Ref:
        """The artefact that a pointer or a full address names. Raises WorldlineError when neither exists."""
        path = self._pointer(name)
        if path.is_file():
            return Ref.parse(json.loads(path.read_text())["ref"])
        if name.count("/") >= 2 and (self.root / name / MANIFEST_NAME).is_file():
            return Ref.parse(name)
        raise WorldlineError(f"Nothing in {self.root} is called '{name}': 'worldline list' prints what there is")

    def pointers(self) -> dict[str, Ref]:
        """All pointers by name."""
        base = self.root / "refs"
        paths = sorted(path for path in base.rglob("*.json") if not path.name.startswith("."))
        return {
            path.relative_to(base).with_suffix("").as_posix(): Ref.parse(json.loads(path.read_text())["ref"])
            for path in paths
        }

    # ---- inside ----

    def _folder(self, ref: Ref) -> Path:
        return self.root / ref.stage / ref.subject / ref.key

    def _pointer(self, name: str) -> Path:
        parts = [check_name(part) for part in name.strip("/").split("/")]
        return self.root.joinpath("refs", *parts[:-1], parts[-1] + ".json")

    @contextmanager
    def _lock(self, ref: Ref) -> Iterator[None]:
        """One process at a time per key. The kernel lets go when the holder dies, kill -9 included."""
        path = self.root / ".locks" / f"{_flat(ref)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{ref}: another process is making it, waiting ...")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _sweep(self, ref: Ref) -> None:
        """Remove what dead writers of this key left; safe because the lock is held."""
        for left in (self.root / ".partial").glob(f"{_flat(ref)}.*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """Turn the operating system's refusals into one line with the repair."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            yield
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise WorldlineError(
                f"The store {self.root} is not writable ({error.strerror}: {error.filename}): set WORLDLINE_HOME, or "
                "artefact_root in the storage profile, to a folder you own"
            ) from error
        except OSError as error:
            if error.errno == errno.EROFS:
                raise WorldlineError(f"The store {self.root} is on a read-only disk: set WORLDLINE_HOME") from error
            if error.errno not in DISK_FULL and f"errno = {errno.ENOSPC}" not in str(error):  # HDF5 hides its errno
                raise
            raise WorldlineError(
                f"No space left in the store {self.root} ({error.strerror}): free some or set WORLDLINE_HOME to a "
                "larger disk; finished artefacts are untouched, run the same command again"
            ) from error


def _flat(ref: Ref) -> str:
    return str(ref).replace("/", "--")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
