"""Copies objects of a bucket into its mirror: several at a time, resumable by byte, verified, committed by rename.

An unfinished object is a hidden `.part` file whose name holds its version, so that a newer object never continues an
older one. When a download was killed, the next call goes on behind the bytes that are there; at most the range that was
on its way is lost.
"""

import glob
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import FILE_CHUNK, BucketObject, Chunks, Mirror
from pipelines.bucket.retry import TRIES, DamagedInTransit, ObjectReplaced, retry_if_damaged
from pipelines.errors import WorldlineError
from pipelines.progress import say, track
from pipelines.store.files import DISK_FULL, locked

CHUNK = 8 << 20  # bytes asked for at a time

WORKERS = 6

Item = TypeVar("Item", bound=BucketObject)

Given = TypeVar("Given")

Made = TypeVar("Made")


def download(
    bucket: Bucket, items: Sequence[Item], title: str, workers: int = WORKERS, pinned: bool = False
) -> list[Item]:
    """Copy `items` into the bucket's mirror. Returns them in the same order, as they were downloaded.

    When an object was replaced meanwhile, the newer one is downloaded and returned, and a line says so; with `pinned`
    ObjectReplaced is raised instead. Raises WorldlineError when the mirror's limit or the disk has no room, when the
    bucket does not answer, and when an object stays different from its checksum; ValueError for a bucket without a
    mirror.
    """
    if bucket.mirror is None:
        raise ValueError(f"{bucket.root} was opened without a mirror: pass one to Bucket.of")
    bucket.mirror.require_room(items)
    with track(title, total=sum(item.bytes for item in items), unit="bytes") as advance:
        work = _Download(bucket, bucket.mirror, advance, pinned)
        return in_threads(work.copy, items, workers, work.stop, "download")


def in_threads(
    work: Callable[[Given], Made], items: Sequence[Given], workers: int, stop: threading.Event, name: str
) -> list[Made]:
    """What `work` makes of every item, in the same order, `workers` at a time; `name` is what the threads are called.

    At the first failure, which is raised, `stop` is set, and what has not begun never does; work that goes on should
    raise StoppedError then. So it is when the user stops the program.
    """
    pool = ThreadPoolExecutor(workers, name)
    try:
        futures = [pool.submit(work, item) for item in items]
        for future in as_completed(futures):
            future.result()
        return [future.result() for future in futures]
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


class StoppedError(Exception):
    """Work for another item failed, or the user stopped the program."""


@dataclass
class _Download:
    """The state that the threads of one call of `download` share."""

    bucket: Bucket
    mirror: Mirror
    advance: Callable[..., None]
    pinned: bool

    def __post_init__(self) -> None:
        self.stop = threading.Event()
        self._counting = threading.Lock()

    def copy(self, item: Item) -> Item:
        """Make a verified copy of the object, or of the one that took its place, which is returned."""
        for attempt in range(1, TRIES + 1):
            try:
                retry_if_damaged(lambda wanted=item: self._fetch(wanted))  # type: ignore[misc]
                return item
            except ObjectReplaced as error:
                if self.pinned or attempt == TRIES:
                    raise
                say(f"{error}; downloading the newer one from its beginning")
                item = replace(item, **asdict(self.bucket.stat(item.name)))
        raise AssertionError("unreachable: the last try returns or raises")

    def _fetch(self, item: BucketObject) -> None:
        path = self.mirror.path(item)
        version = hashlib.sha256(repr((item.version, item.bytes, item.crc32c, item.md5)).encode()).hexdigest()[:12]
        part = path.with_name(f".{path.name}.{version}.part")
        try:
            if self.mirror.find(item) is not None:
                self._count(item.bytes, held=True)
                return
            with locked(part):  # locking makes the file; another process may copy the same object
                if self.mirror.find(item) is not None:
                    part.unlink(missing_ok=True)
                    self._count(item.bytes, held=True)
                    return
                self._fill(item, part)
                for old in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise self._write_error(error) from error

    def _fill(self, item: BucketObject, part: Path) -> None:
        with part.open("r+b") as file:
            try:
                with self.bucket.checked(item, self._chunks(item, file)) as reader:
                    reader.verify()
            except (DamagedInTransit, ObjectReplaced):
                self._count(-file.tell())
                file.truncate(0)
                raise
            os.fsync(file.fileno())
        self.mirror.commit(item, part)

    def _chunks(self, item: BucketObject, file: IO[bytes]) -> Chunks:
        """The bytes that are in the file already, then those of the bucket, which are written before they are used."""
        held = 0
        while held < item.bytes and (data := file.read(min(FILE_CHUNK, item.bytes - held))):
            held += len(data)
            self._count(len(data), held=True)
            yield data
        file.seek(held)
        file.truncate()
        for start in range(held, item.bytes, CHUNK):
            if self.stop.is_set():
                raise StoppedError
            data = self.bucket.read_range(item, start, start + CHUNK, self.stop.is_set)
            file.write(data)
            file.flush()
            self._count(len(data))
            yield data

    def _count(self, amount: int, held: bool = False) -> None:
        with self._counting:
            self.advance(amount, held=held)

    def _write_error(self, error: OSError) -> WorldlineError:
        folder = self.mirror.folder
        if error.errno in DISK_FULL:
            return WorldlineError(
                f"No space left for the mirror {folder} ({error.strerror}): free some or set scratch in the storage "
                "profile to a larger disk; what was downloaded stays, run the same command again"
            )
        return WorldlineError(
            f"The mirror {folder} cannot be written ({error.strerror}: {error.filename}): set scratch in the storage "
            "profile to a folder you own"
        )
