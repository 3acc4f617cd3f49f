"""Copies of a bucket's artefacts here, a folder each by the digest of its manifest: verified, bounded, shared.

A file is there under its name only when its sha256 was the manifest's. Room is taken before anything is downloaded:
files that are on their way have their whole size, and what was used longest ago goes. Nothing goes that a living
process uses, as it leaves a mark for as long as it holds the artefact (`Cache.use`). A process that is killed loses its
marks with its lock.
"""

import fcntl
import gc
import hashlib
import itertools
import os
import shutil
import threading
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.download import CHUNK, StoppedError, in_threads
from pipelines.bucket.retry import Absent, DamagedInTransit, retry_if_damaged
from pipelines.bucket.writing import WORKERS, WritableBucket
from pipelines.errors import WorldlineError
from pipelines.progress import Advance, track
from pipelines.store.files import locked, locked_now, sha256_of, sync, writable
from pipelines.store.manifest import FileEntry

ALIVE = "alive"


class NoRoomError(WorldlineError):
    """The cache is too small, or what is in use leaves too little of it."""


class Use:
    """As long as this object lives, the copy that it is of stays."""


class Cache:
    """`folder` holds the copies. `limit`: the most bytes of all of them together; None: no limit."""

    def __init__(self, bucket: WritableBucket, folder: Path, limit: int | None) -> None:
        self.bucket, self.folder, self.limit = bucket, folder, limit
        self._locks = folder.with_name(f".{folder.name}-locks")
        self._uses: weakref.WeakValueDictionary[str, Use] = weakref.WeakValueDictionary()
        self._guard, self._numbers = threading.RLock(), itertools.count()
        self._marks: tuple[int, Path, IO[str]] | None = None  # process, folder, its lock

    def place(self, digest: str) -> Path:
        """Where the copy of an artefact lies, whole, in part, or not yet."""
        return self.folder / digest

    def use(self, digest: str) -> Use:
        """Keep what is there of an artefact from being dropped while the result lives."""
        with self._guard:
            if (found := self._uses.get(digest)) is not None:
                return found
            with self._alone(shared=True):
                mark = self._mine() / f"{digest}.{next(self._numbers)}"
                mark.touch()
                if self.place(digest).is_dir():
                    os.utime(self.place(digest))
            self._uses[digest] = made = Use()
            weakref.finalize(made, _unmark, mark, os.getpid())
            return made

    def bring(self, digest: str, at: str, entries: Sequence[FileEntry], name: str) -> None:
        """Have these files of an artefact in its place. `at`: the bucket's folder; `name`: the artefact, for messages.

        The caller uses the artefact. Raises NoRoomError for what does not fit, WorldlineError for what is gone or is
        not the manifest's.
        """
        if not self._missing(digest, entries):
            return
        with writable(self.folder, "cache"), locked(self._locks / f"{digest}.lock"):  # who comes second finds them
            if missing := self._missing(digest, entries):
                self._take_room(digest, missing, name)
                with track(f"Bring {name}", sum(entry.bytes for entry in missing), "bytes") as advance:
                    self._download(digest, at, missing, advance)

    def is_in_bucket(self, item: BucketObject, sha256: str) -> bool:
        """Whether an object has that hash. It is read, once more where it differs, and not kept."""

        def once() -> str:
            found = hashlib.sha256()
            for start in range(0, item.bytes, CHUNK):
                found.update(self.bucket.read_range(item, start, start + CHUNK))
            return found.hexdigest()

        return once() == sha256 or once() == sha256  # bytes may be damaged on their way

    def hash_again(self, digest: str, entries: Iterable[FileEntry]) -> None:
        """Drop those files of a copy that are not what the manifest says any more: they are brought again."""
        for entry in entries:
            path = self.place(digest) / entry.path
            if path.is_file() and sha256_of(path) != entry.sha256:
                path.unlink()

    def take(self, folder: Path, digest: str, size: int, name: str) -> None:
        """Move a finished artefact of this machine in here, where there is room for it; it goes in any case."""
        with self._alone():
            try:
                self._require_room(size, digest, name)
                self.folder.mkdir(parents=True, exist_ok=True)
                folder.rename(self.place(digest))
            except (WorldlineError, OSError):  # too large, or it is there already
                shutil.rmtree(folder, ignore_errors=True)

    def drop(self, digest: str) -> None:
        """Remove a copy that nobody uses."""
        with self._alone():
            if digest not in self._in_use():
                self._remove(self.place(digest))

    # ---- room ----

    def _take_room(self, digest: str, missing: Sequence[FileEntry], name: str) -> None:
        """Make the files that are on their way, at their whole size."""
        with self._alone():
            parts = {_part(self.place(digest) / entry.path): entry.bytes for entry in missing}
            for part in parts:
                part.unlink(missing_ok=True)  # of a process that was killed
            self._require_room(sum(parts.values()), digest, name)
            for part, size in parts.items():
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    file.truncate(size)

    def _require_room(self, size: int, digest: str, name: str) -> None:
        """Drop what was used longest ago until `size` bytes more fit; nothing, but NoRoomError, if they cannot."""
        if self.limit is None:
            return
        sizes = {path: _size(path) for path in self.folder.glob("*") if path.is_dir()}
        kept = {*self._in_use(), digest}
        used = sum(held for path, held in sizes.items() if path.name in kept)
        if used + size > self.limit:  # what nobody can reach may wait in a cycle of references
            gc.collect()
            kept = {*self._in_use(), digest}
            used = sum(held for path, held in sizes.items() if path.name in kept)
        if used + size > self.limit:
            beside = f" beside {used:,} that are in use" if used else ""
            raise NoRoomError(
                f"{name} needs {size:,} bytes in the cache {self.folder}{beside}, and cache_bytes is {self.limit:,}: "
                "raise cache_bytes in the storage profile"
            )
        oldest = sorted((path for path in sizes if path.name not in kept), key=lambda path: path.stat().st_mtime)
        while sum(sizes.values()) + size > self.limit:
            self._remove(oldest[0])
            del sizes[oldest.pop(0)]

    def _remove(self, place: Path) -> None:
        aside = place.with_name(f".{uuid.uuid4().hex[:8]}")
        if place.is_dir():
            place.rename(aside)
        for left in self.folder.glob(".*"):  # of this one, and of processes that were killed at it
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _alone(self, shared: bool = False) -> Iterator[None]:
        with self._guard, locked(self._locks / "cache.lock", shared=shared):
            yield

    # ---- marks ----

    def _mine(self) -> Path:
        """The folder of this process's marks, whose lock it holds until it ends."""
        if self._marks is None or self._marks[0] != os.getpid():
            folder = self._locks / "uses" / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
            folder.mkdir(parents=True)
            file = (folder / ALIVE).open("a")
            fcntl.flock(file, fcntl.LOCK_EX)
            self._marks = os.getpid(), folder, file
        return self._marks[1]

    def _in_use(self) -> set[str]:
        """The digests that living processes use; what dead ones left is swept away."""
        found: set[str] = set()
        for folder in (self._locks / "uses").glob("*"):
            with locked_now(folder / ALIVE) as dead:
                if dead:
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    found |= {mark.name.partition(".")[0] for mark in folder.iterdir()}
        return found

    # ---- bytes ----

    def _missing(self, digest: str, entries: Sequence[FileEntry]) -> list[FileEntry]:
        place = self.place(digest)
        return [entry for entry in entries if not _holds(place / entry.path, entry.bytes)]

    def _download(self, digest: str, at: str, missing: Sequence[FileEntry], advance: Advance) -> None:
        stop, guard = threading.Event(), threading.Lock()

        def count(amount: int) -> None:
            with guard:
                advance(amount)

        def one(entry: FileEntry) -> None:
            self._one(self.place(digest) / entry.path, f"{at}/{entry.path}", entry, stop, count)

        in_threads(one, missing, WORKERS, stop, "bring")

    def _one(self, path: Path, name: str, entry: FileEntry, stop: threading.Event, count: Advance) -> None:
        item = BucketObject(f"{self.bucket.root}/{name}", name, entry.bytes, None, None)
        try:
            retry_if_damaged(partial(self._fill, _part(path), item, entry.sha256, stop, count))
        except Absent as error:
            raise WorldlineError(f"{item.url} is gone: make that artefact anew with --remake") from error
        sync(_part(path))
        _part(path).replace(path)

    def _fill(self, part: Path, item: BucketObject, sha256: str, stop: threading.Event, count: Advance) -> None:
        found = hashlib.sha256()
        with part.open("r+b") as file:
            for start in range(0, item.bytes, CHUNK):
                if stop.is_set():
                    raise StoppedError
                data = self.bucket.read_range(item, start, start + CHUNK, stop.is_set)
                found.update(data)
                file.write(data)
                count(len(data))
        if found.hexdigest() != sha256:
            raise DamagedInTransit(
                f"{item.url} has sha256 {found.hexdigest()[:12]}..., the manifest says {sha256[:12]}...: make that "
                "artefact anew with --remake"
            )


def _unmark(mark: Path, process: int) -> None:
    if os.getpid() == process:  # a forked child ends with its parent's marks in hand
        mark.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _holds(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size and path.is_file()
    except OSError:
        return False


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a file that got its name just now has left its old one
            total += path.stat().st_size if path.is_file() else 0
    return total
