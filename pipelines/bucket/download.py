"""Objects of a bucket into its mirror: several at a time, resumable by byte, verified, committed by rename.

An unfinished object is a hidden `.part` file named after its version, so that a newer object never continues an older
one. Killed at any point, the next call goes on behind the bytes that are there: at most the range in flight is lost.
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
from pipelines.bucket.mirror import Mirror
from pipelines.bucket.reader import FILE_CHUNK, Chunks
from pipelines.bucket.remote import BucketObject
from pipelines.bucket.retry import TRIES, DamagedInTransit, ObjectReplaced, once_more
from pipelines.errors import WorldlineError
from pipelines.progress import say, track
from pipelines.store.files import DISK_FULL, locked

CHUNK = 8 << 20  # bytes asked for at a time

WORKERS = 6

Item = TypeVar("Item", bound=BucketObject)


def download(
    bucket: Bucket, items: Sequence[Item], title: str, workers: int = WORKERS, pinned: bool = False
) -> list[Item]:
    """Bring copies of `items` into the bucket's mirror; returns them in the same order, as they were downloaded.

    An object that was replaced meanwhile is restarted, which is said, and comes back as the newer one; with `pinned`
    it raises ObjectReplaced. Raises WorldlineError for no room below the mirror's limit, a full disk, a bucket
    that does not answer, and an object that stays different from its checksum.
    """
    if bucket.mirror is None:
        raise ValueError(f"{bucket.root} was opened without a mirror: pass one to Bucket.of")
    bucket.mirror.require_room(items)
    with track(title, total=sum(item.bytes for item in items), unit="bytes") as advance:
        work = _Work(bucket, bucket.mirror, advance, pinned)
        pool = ThreadPoolExecutor(workers, "download")
        try:
            futures = [pool.submit(work.bring, item) for item in items]
            for future in as_completed(futures):
                future.result()  # the first failure ends them all
            return [future.result() for future in futures]
        finally:
            work.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


class _Stopped(Exception):  # noqa: N818
    """Another object failed, or Ctrl-C: the part file stays as it is."""


@dataclass
class _Work:
    """What the threads of one download share."""

    bucket: Bucket
    mirror: Mirror
    advance: Callable[..., None]
    pinned: bool

    def __post_init__(self) -> None:
        self.stop = threading.Event()
        self._counting = threading.Lock()

    def bring(self, item: Item) -> Item:
        """Have a verified copy of the object, or of the one that took its place."""
        for attempt in range(1, TRIES + 1):
            try:
                once_more(lambda wanted=item: self._fetch(wanted))  # type: ignore[misc]
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
            with locked(part):  # makes it; another process may be at the same object
                if self.mirror.find(item) is not None:
                    part.unlink(missing_ok=True)
                    self._count(item.bytes, held=True)
                    return
                self._fill(item, part)
                for old in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise self._refusal(error) from error

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
        self.mirror.keep(item, part)

    def _chunks(self, item: BucketObject, file: IO[bytes]) -> Chunks:
        """The bytes that are in the file already, then those that are still to come, written before they are used."""
        held = 0
        while held < item.bytes and (data := file.read(min(FILE_CHUNK, item.bytes - held))):
            held += len(data)
            self._count(len(data), held=True)
            yield data
        file.seek(held)
        file.truncate()
        for start in range(held, item.bytes, CHUNK):
            if self.stop.is_set():
                raise _Stopped
            data = self.bucket.read_range(item, start, start + CHUNK, self.stop.is_set)
            file.write(data)
            file.flush()
            self._count(len(data))
            yield data

    def _count(self, amount: int, held: bool = False) -> None:
        with self._counting:
            self.advance(amount, held=held)

    def _refusal(self, error: OSError) -> WorldlineError:
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
