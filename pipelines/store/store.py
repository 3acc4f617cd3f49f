"""The artefact store: a folder in which nothing exists until its manifest is written.

`produce` is the only way in: it waits for the key's lock, skips when the artefact stands already, verifies the
parents, lets the stage write into a private folder (or adopts the files of an equal artefact: commit.py), hashes
and syncs every file, writes the manifest last and renames the folder into place (commit.py). A process killed at any
point leaves a private folder that the next holder of the lock sweeps away.

An artefact belongs to the bytes of its parents: where one of them was made again and holds others, the artefact is
stale. It is neither skipped for nor opened; with `remake` it is made anew in its place.
Use: `home.open_store()`, then `store.produce(config.spec(), build)` in a stage, `store.open(ref)` elsewhere.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from pathlib import Path

from pipelines.errors import MayPass, Members, WorldlineError, not_now
from pipelines.progress import say
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.commit import adopt, commit, equals, hashed, parent_entries
from pipelines.store.files import locked, sync, writable, write_whole
from pipelines.store.machine import CostMeter
from pipelines.store.manifest import MANIFEST_NAME, FileEntry, Manifest, digest
from pipelines.store.profile import Profile
from pipelines.store.ref import Pointer, Pointers, Ref
from pipelines.store.stage_config import VERBS, Spec

REHASH_PARENTS_UP_TO = 2 << 30  # bytes; larger parents are checked by size here and by `worldline lineage --verify`

PRIVATE = (".partial", ".locks", ".scratch", "refs")
PINS = "parents.json"  # in a scratch folder: the bytes of the parents that the state there was begun from


class Store(Pointers):
    """Artefacts under one root folder: `root/<stage>/<subject>/<key>/`.

    `scratch` may name a faster disk for the resumable state of long stages (default: a folder of the store).
    `profile` says how to reach buckets and what may be kept of them; by default nothing special. `remake` makes
    damaged and stale artefacts anew instead of refusing them.
    """

    def __init__(
        self, root: Path, scratch: Path | None = None, profile: Profile | None = None, remake: bool = False
    ) -> None:
        super().__init__(root.absolute())
        self.remake = remake
        self._read: dict[Ref, tuple[tuple[int, ...], Artefact]] = {}
        self.profile = profile or Profile("none")
        self.scratch = self.root / ".scratch"
        if scratch is not None:  # stores may share that disk and make equal keys: each gets a folder of its own
            self.scratch = scratch.absolute() / hashlib.sha256(str(self.root).encode()).hexdigest()[:12]

    def remaking(self) -> "Store":
        """The same store with `remake`."""
        other = copy(self)
        other.remake = True
        return other

    # ---- reading ----

    def require_reachable(self) -> None:
        """Raises OSError where the root cannot be read: what it holds is not known then, and not missing."""
        next(self.root.iterdir(), None)

    def require_rights(self) -> None:
        """Raises WorldlineError where it is known beforehand that nothing can be written."""

    def holds(self, ref: Ref) -> bool:
        """Whether an artefact stands there, sound or not."""
        return (self._folder(ref) / MANIFEST_NAME).is_file()

    def find(self, ref: Ref) -> Artefact | None:
        """The artefact at `ref`, or None when its manifest is not there. Raises WorldlineError for a damaged one."""
        folder = self._folder(ref)
        path = folder / MANIFEST_NAME
        try:
            now = path.stat()
            version = (now.st_ino, now.st_mtime_ns, now.st_size)
            if ref in self._read and self._read[ref][0] == version:
                return self._read[ref][1]
            raw = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise not_now(path, error) from error
        found = Artefact(ref, folder, manifest_of(ref, raw, str(path)), digest(raw))
        self._read[ref] = version, found
        return found

    def stale(self, artefact: Artefact) -> str:
        """Which parent, however far above, holds other bytes than the artefact was made from; "" where none does.

        Parents that are gone say nothing: the manifest still pins them.
        """
        queue, seen = [artefact], {artefact.ref}
        while queue:
            child = queue.pop()
            for entry in child.manifest.parents:
                ref = Ref.parse(entry.ref)
                found = self.find(ref)
                if found is None:
                    continue
                if difference := entry.difference(found.manifest, found.digest):
                    of = "its parent" if child is artefact else f"a parent of {child.ref}"
                    return f"{ref}, {of}, was made again since, and {difference}"
                if ref not in seen:
                    seen.add(ref)
                    queue.append(found)
        return ""

    def standing(self, ref: Ref) -> Artefact | None:
        """The artefact at `ref` that a stage may skip for: there, by its file sizes whole, and of its parents' bytes.

        Raises WorldlineError for a damaged or a stale one; with `remake` that counts as none. What only cannot be read
        now is never made anew: raises MayPass.
        """
        try:
            artefact = self.find(ref)
            if artefact is None:
                return None
            if faults := artefact.faults(rehash=False):
                raise WorldlineError(
                    f"{ref} is damaged: {faults[0]}; delete {artefact.where} and run this again, or make it anew "
                    "with --remake"
                )
            self._refuse_stale(artefact)
        except MayPass:
            raise
        except WorldlineError:
            if self.remake:
                return None
            raise
        return artefact

    def _refuse_stale(self, artefact: Artefact) -> None:
        if why := self.stale(artefact):
            raise WorldlineError(
                f"{artefact.ref} is stale: {why}; make it anew with --remake (such as {maker(artefact.ref.stage)} "
                "--remake), or put the parent of that time back"
            )

    def open(self, ref: Ref) -> Artefact:
        """The artefact at `ref`, verified for use as a parent: present, files whole, no failed blocking check.

        Raises WorldlineError where it is not, and for a stale one.
        """
        artefact = self.find(ref)
        if artefact is None:
            raise WorldlineError(
                f"{ref} is not in the store {self.where}: make it first ({maker(ref.stage)}){self._kin(ref)}"
            )
        if faults := self._faults_of_parent(artefact):
            raise WorldlineError(
                f"{ref} is damaged: {faults[0]}; delete {artefact.where} and make it again ({maker(ref.stage)})"
            )
        for check in artefact.manifest.checks:
            if check.blocking and not check.passed:
                raise WorldlineError(
                    f"{ref} failed its check '{check.name}' ({check.detail}): nothing may be built on it; mend its "
                    f"source, delete {artefact.where} and make it again"
                )
        self._refuse_stale(artefact)
        return artefact

    def _faults_of_parent(self, artefact: Artefact) -> list[str]:
        return artefact.faults(rehash=artefact.manifest.total_bytes <= REHASH_PARENTS_UP_TO)

    def raw_manifest(self, name: str) -> bytes:
        """The bytes of the manifest of an artefact by its address, though they be damaged."""
        return (self.root / name / MANIFEST_NAME).read_bytes()

    def artefacts(self, below: str = "", members: Members | None = None) -> Iterator[Artefact]:
        """Every finished artefact, or those below `stage/subject`, in a fixed order.

        A damaged manifest is left out where `members` keeps why, by its address; otherwise it raises WorldlineError.
        """
        members = Members.or_strict(members)
        for folder, folders, files in os.walk(self.root / below):
            parts = Path(folder).relative_to(self.root).parts
            folders[:] = sorted(set(folders) - set(PRIVATE)) if not parts else sorted(folders)
            if MANIFEST_NAME in files and len(parts) >= 3:
                folders.clear()  # what lies below is the artefact's own, and may be many thousand chunks
                found = None
                with members.each("/".join(parts)):
                    found = self.find(Ref(parts[0], "/".join(parts[1:-1]), parts[-1]))
                if found is not None:
                    yield found

    def _kin(self, ref: Ref) -> str:
        """What stands beside a missing artefact: a config that was changed, or a release that writes other bytes."""
        beside = self.artefacts(f"{ref.stage}/{ref.subject}", Members())
        kin = [(found.ref.key, found.manifest.code_version) for found in beside]
        named = ", ".join(f"{key} of code version {code}" for key, code in kin[:3])
        return f"; there is {named}, of another config or code" if kin else ""

    # ---- writing ----

    def produce(self, spec: Spec, build: Callable[[Draft], None]) -> Report:
        """Make the artefact of `spec` with `build`, or find it, or adopt the files of an equal one.

        The stages' one door; see the file's docstring. Raises WorldlineError for a parent that is missing, damaged,
        stale or failed a blocking check, for a damaged or stale artefact under the key itself, and for a disk that
        refuses bytes.
        """
        ref = spec.ref
        if (found := self.standing(ref)) is not None:
            return Report(found, skipped=True)
        with writable(self.root), self.building(), locked(self.lock_path(ref), on_wait=lambda: say_waiting(ref)):
            if (found := self.standing(ref)) is not None:  # another process finished it while this one waited
                return Report(found, skipped=True)
            meter = CostMeter()
            self._sweep(ref)
            parents = {parent: self.open(parent) for parent in spec.parents}
            scratch = self._scratch_of(spec, parents)
            folder = self.root / ".partial" / f"{flat(ref)}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
            folder.mkdir(parents=True)
            try:
                draft = Draft(spec, folder, scratch, parents)
                with meter.kept(scratch):
                    source, files = self._adopt(draft) or (None, ())
                    if source is None:
                        build(draft)
                        files = hashed(draft)
                artefact = self._publish(commit(draft, files, meter, self._folder(ref), source))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(scratch, ignore_errors=True)
            return Report(artefact, skipped=source is not None, adopted=source is not None)

    @contextmanager
    def preparing(self, specs: Iterable[Spec]) -> Iterator[dict[Ref, tuple[Path, dict[Ref, Artefact]]]]:
        """Work ahead on several artefacts at once: of those that do not stand the scratch folder, kept from others,
        and the opened parents.

        What is left there `produce` hands to the stage, as after a kill.
        """
        by_ref = {spec.ref: spec for spec in specs}
        with writable(self.root), self.building(), ExitStack() as held:
            for ref in sorted(by_ref):  # in one order, so that two who prepare never wait for each other
                held.enter_context(locked(self.lock_path(ref), on_wait=partial(say_waiting, ref)))
            missing = {ref: spec for ref, spec in by_ref.items() if self.standing(ref) is None}
            opened = {parent: self.open(parent) for spec in missing.values() for parent in spec.parents}
            yield {ref: (self._scratch_of(spec, opened), opened) for ref, spec in missing.items()}

    def _scratch_of(self, spec: Spec, parents: dict[Ref, Artefact]) -> Path:
        """The folder for resumable state. What lies there of other parents' bytes is set aside, not gone on with."""
        folder = self.scratch / flat(spec.ref)
        pins = folder / PINS
        now = json.dumps([entry.pin for entry in parent_entries(spec, parents)])
        if folder.is_dir() and pins.is_file() and pins.read_text() != now:
            aside = folder.with_name(f"{folder.name}.stale.{uuid.uuid4().hex[:8]}")
            folder.rename(aside)
            say(f"{spec.ref} was begun from other bytes of its parents: begins anew, what there was is in {aside}")
        folder.mkdir(parents=True, exist_ok=True)
        if spec.parents and not pins.is_file():
            write_whole(pins, now.encode(), pins.with_name(f".{PINS}"))
        return folder

    def _siblings(self, ref: Ref) -> Iterator[Artefact]:
        """The other artefacts of the same stage and subject that can be read."""
        for found in self.artefacts(f"{ref.stage}/{ref.subject}", Members()):  # what is damaged is not judged here
            if found.ref.subject == ref.subject and found.ref != ref:
                yield found

    def _adopt(self, draft: Draft) -> tuple[Artefact, tuple[FileEntry, ...]] | None:
        """An artefact whose files the draft took over because its inputs are the same, and these files."""
        if not any(draft.spec.parts):
            return None
        for source in equals(draft, self._siblings(draft.spec.ref)):
            files = adopt(draft, source)
            if files is not None:
                return source, files
            say(f"{source.ref} is damaged: {draft.spec.ref} is made from its parents, not from that")
        return None

    # ---- names ----

    def point(self, name: str, ref: Ref) -> None:
        """Let `name` (`scores/demo-1a2b3c4d/Freeway`) mean `ref`. Atomic; the only thing here that may change."""
        artefact = self.find(ref)
        self.write_pointer(name, Pointer(str(ref), artefact.digest if artefact else ""))

    def resolve(self, name: str) -> Ref:
        """The artefact that a pointer or a full address names. Raises WorldlineError when neither exists."""
        if (found := self.pointed(name)) is not None:
            return found
        if name.strip("/").count("/") >= 2 and self.holds(ref := Ref.parse(name)):
            return ref
        raise WorldlineError(f"Nothing in {self.where} is called '{name}': 'worldline list' prints what there is")

    # ---- removing, for gc ----

    def remove(self, artefact: Artefact) -> None:
        """Delete an artefact. The rename is the removal: killed after it, it is gone and a leftover remains."""
        aside = self.root / ".partial" / f"{flat(artefact.ref)}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        artefact.place.rename(aside)
        sync(artefact.place.parent)
        shutil.rmtree(aside)
        for folder in (artefact.place.parent, *artefact.place.parent.parents):
            if folder == self.root or any(folder.iterdir()):
                break
            folder.rmdir()

    def is_young(self, artefact: Artefact) -> bool:
        """Whether somebody whom no lock of this machine tells of may be about to name it, or to build on it."""
        return False

    def orphans(self) -> dict[str, int]:
        """What writers left that died elsewhere, and its bytes; `drop` removes it."""
        return {}

    def drop(self, orphan: str) -> None:
        """Remove one of `orphans`."""

    # ---- inside ----

    def _publish(self, made: Artefact) -> Artefact:
        """What stands in the store of an artefact that was just made here: in a folder, that itself."""
        return made

    def _folder(self, ref: Ref) -> Path:
        return self.root / ref.stage / ref.subject / ref.key

    def lock_path(self, ref: Ref) -> Path:
        """The file that whoever makes `ref` holds locked."""
        return self.root / ".locks" / f"{flat(ref)}.lock"

    @property
    def store_lock_path(self) -> Path:
        """Held shared by everyone who makes something, alone by `gc`."""
        return self.root / ".locks" / "store"

    @contextmanager
    def building(self) -> Iterator[None]:
        """Keep `gc` out while something is being made."""
        with locked(self.store_lock_path, shared=True, on_wait=lambda: say("Waiting for 'worldline gc' to end ...")):
            yield

    def _sweep(self, ref: Ref) -> None:
        """Remove what dead writers of this key left; safe because the lock is held.

        In scratch that is what has a dot before its name: what was written aside and not renamed.
        """
        for left in (self.root / ".partial").glob(f"{flat(ref)}.*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in list((self.scratch / flat(ref)).rglob(".*")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def manifest_of(ref: Ref, raw: bytes, where: str) -> Manifest:
    """The manifest of `ref`, read at `where`. Raises WorldlineError for a damaged one, and for another's."""
    manifest = Manifest.from_bytes(raw, where)
    if (manifest.stage, manifest.subject, manifest.key) != (ref.stage, ref.subject, ref.key):
        raise WorldlineError(
            f"{where} describes {manifest.stage}/{manifest.subject}/{manifest.key}: folders must not be renamed; "
            "move it back or delete it"
        )
    return manifest


def maker(stage: str) -> str:
    """The command that makes artefacts of a stage, for repairs."""
    if VERBS.get(stage, ("", ""))[1] == "data":
        return f"worldline {VERBS[stage][0]} with the same games, agents and --set"
    return f"worldline materialize EXPERIMENT --until {stage}"


def flat(ref: Ref) -> str:
    """An address as one file name; '@' occurs in no address, so two of them never meet."""
    return str(ref).replace("/", "@")


def say_waiting(ref: Ref, who: str = "another process") -> None:
    """Tell the person who waits for what."""
    say(f"{ref}: {who} is making it, waiting ...")
