"""One object of a bucket: as its listing shows it (size, checksums, version), as it is read, and its copy in a mirror.

Bucket.list makes these objects; `throughput(root).rate()` is what `worldline fetch --plan` estimates times with.

A `Reader` is a stream of one object's bytes that is compared with the listing at its end. Ranges of 4 MiB are read one
ahead in a thread, so that network and inflating overlap. A dropped connection costs one range.

A mirror is a local copy of objects in their bucket's own layout, so that its folder is itself a bucket (file://...).
Beside each object lies a hidden file with its size, checksums and version. A copy is used only when these are the ones
that are wanted; whoever reads it compares the checksum once more.
"""

import base64
import binascii
import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import google_crc32c

from pipelines.bucket.clients import LOCAL, protocol
from pipelines.errors import WorldlineError, may_pass, not_now
from pipelines.store.store import Store

MD5_ETAG = re.compile(r"[0-9a-f]{32}")  # what S3 gives objects that were uploaded in one piece
CHUNK = 4 << 20  # bytes
FILE_CHUNK = 1 << 20
Chunks = Generator[bytes, None, None]


@dataclass(frozen=True)
class BucketObject:
    """`name` is relative to the bucket's root; `version` changes whenever the object does.

    crc32c is eight hex digits and md5 thirty-two, or None where the store publishes none. `version` is the generation
    or etag of an object store, the modification time in seconds of a local file.
    """

    url: str
    name: str
    bytes: int
    crc32c: str | None
    version: str | None
    md5: str | None = None

    def same_as(self, other: "BucketObject") -> bool:
        """Whether all that is known of both objects agrees."""
        pairs = ((self.version, other.version), (self.crc32c, other.crc32c), (self.md5, other.md5))
        return self.bytes == other.bytes and all(ours == theirs for ours, theirs in pairs if ours and theirs)


def entry_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """bytes, crc32c, version and md5 from the entry that any fsspec file system lists for a file."""
    version = next((entry[key] for key in ("generation", "ETag", "etag", "mtime") if entry.get(key)), None)
    version = None if version is None else str(version).strip('"')
    md5 = _hex(entry.get("md5Hash"), 16)
    if md5 is None and "ETag" in entry and version and MD5_ETAG.fullmatch(version):
        md5 = version
    return {"bytes": int(entry["size"]), "crc32c": _hex(entry.get("crc32c"), 4), "version": version, "md5": md5}


def _hex(published: object, size: int) -> str | None:
    """A checksum as hex. Google publishes it as base64, big end first; anything else gives None."""
    if not isinstance(published, str) or not published:
        return None
    try:
        raw = base64.b64decode(published, validate=True)
    except binascii.Error:
        return None
    return raw.hex() if len(raw) == size else None


class Reader(io.RawIOBase):
    """The bytes of `item`, in order and once. Nothing that was read may be trusted before `verify` has returned.

    raise_for(fault): called at the end with what is wrong with the bytes (None when nothing is); it raises the error.
    unchecked: no checksum was published, so damage on the way cannot be told from damage at rest.
    """

    def __init__(
        self, item: BucketObject, chunks: Chunks, raise_for: Callable[[str | None], None], unchecked: bool
    ) -> None:
        self.item, self.unchecked = item, unchecked
        self._chunks, self._raise_for = chunks, raise_for
        self._rest = memoryview(b"")
        self._count = 0
        self._crc32c = google_crc32c.Checksum()
        self._md5 = hashlib.md5(usedforsecurity=False) if item.md5 and not item.crc32c else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self._advance():
            return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def verify(self) -> str:
        """Read what is left, compare length and checksum with the listing, and return the crc32c of all bytes.

        Raises ObjectReplaced, DamagedInTransit (worth reading once more), or WorldlineError for a local file.
        """
        while self._advance():
            pass
        found = self._crc32c.hexdigest().decode()
        self._raise_for(self._fault(found))
        return found

    def close(self) -> None:
        self._chunks.close()
        super().close()

    def _advance(self) -> bool:
        data = next(self._chunks, b"")
        self._rest = memoryview(data)
        self._count += len(data)
        self._crc32c.update(data)
        if self._md5 is not None:
            self._md5.update(data)
        return bool(data)

    def _fault(self, crc32c: str) -> str | None:
        item = self.item
        if self._count != item.bytes:
            return f"holds {self._count:,} bytes, the object list says {item.bytes:,}"
        if item.crc32c and crc32c != item.crc32c:
            return f"has crc32c {crc32c}, the object list says {item.crc32c}"
        if self._md5 is not None and self._md5.hexdigest() != item.md5:
            return f"has md5 {self._md5.hexdigest()}, the object list says {item.md5}"
        return None


def file_chunks(file: IO[bytes]) -> Chunks:
    """The bytes of an open file, block by block. The file is closed at the end."""
    with file:
        while data := file.read(FILE_CHUNK):
            yield data


def range_chunks(read: Callable[[int, int], bytes], size: int) -> Chunks:
    """The bytes 0..size-1 from `read(start, stop)`. While one range is consumed, the next is on its way."""
    if size <= CHUNK:
        yield read(0, size)
        return
    ahead = ThreadPoolExecutor(1, "read-ahead")
    try:
        pending = ahead.submit(read, 0, CHUNK)
        for start in range(CHUNK, size, CHUNK):
            data = pending.result()
            pending = ahead.submit(read, start, min(start + CHUNK, size))
            yield data
        yield pending.result()
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)


class Throughput:
    """Bytes and seconds of one bucket in this process, all threads together. Seconds of parallel reads count once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reads = self._bytes = 0
        self._started = self._seconds = 0.0

    @contextmanager
    def reading(self, size: int) -> Iterator[None]:
        """Count `size` bytes if the block ends without an error, and its time in any case."""
        with self._lock:
            if not self._reads:
                self._started = time.monotonic()
            self._reads += 1
        done = 0
        try:
            yield
            done = size
        finally:
            with self._lock:
                self._reads -= 1
                self._bytes += done
                if not self._reads:
                    self._seconds += time.monotonic() - self._started

    def rate(self) -> float | None:
        """Bytes per second so far; None before the first read has ended."""
        with self._lock:
            return self._bytes / self._seconds if self._seconds > 0 and self._bytes else None


_THROUGHPUTS: dict[str, Throughput] = {}

_LOCK = threading.Lock()


def throughput(root: str) -> Throughput:
    """The counter that all readers of a bucket's root URL share."""
    with _LOCK:
        return _THROUGHPUTS.setdefault(root, Throughput())


@dataclass(frozen=True)
class Mirror:
    """The copy of one bucket in `folder`. All mirrors below `folder.parent` together may hold `limit` bytes."""

    folder: Path
    limit: int | None = None

    @classmethod
    def of(cls, url: str, store: Store) -> "Mirror | None":
        """The mirror of the bucket `url` where the store's profile keeps it; None for a bucket that is local anyway."""
        if protocol(url) in LOCAL:
            return None
        base = store.profile.scratch_folder() or store.root.parent
        return cls(base / "mirror" / slug(url), store.profile.cache_bytes)

    def path(self, item: BucketObject) -> Path:
        """Where the copy of an object lies or would lie. Raises WorldlineError for a name that leaves the folder."""
        parts = PurePosixPath(item.name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in item.name:
            raise WorldlineError(f"{item.url}: '{item.name}' leads out of the mirror {self.folder}: rename the object")
        return self.folder.joinpath(*parts)

    def find(self, item: BucketObject) -> Path | None:
        """The copy of exactly this object (same size, version and checksums), or None.

        Raises MayPass where the disk failed: a copy that cannot be read now is not downloaded again in its place.
        """
        path = self.path(item)
        try:
            kept = BucketObject(url=item.url, **json.loads(_sidecar(path).read_text()))
            size = path.stat().st_size
        except (OSError, ValueError, TypeError) as error:
            if may_pass(error):
                raise not_now(path, error) from error
            return None
        return path if size == kept.bytes and kept.name == item.name and kept.same_as(item) else None

    def commit(self, item: BucketObject, part: Path) -> Path:
        """Commit a complete and verified file by rename. Its sidecar comes first: neither counts without the other."""
        path = self.path(item)
        path.unlink(missing_ok=True)  # an older version must not lie beside the newer's sidecar
        entry = {key: value for key, value in asdict(item).items() if key in BucketObject.__dataclass_fields__}
        del entry["url"]
        _sidecar(path).write_text(json.dumps(entry) + "\n")
        part.replace(path)
        return path

    def remove(self, item: BucketObject) -> None:
        """Delete the copy of an object."""
        path = self.path(item)
        _sidecar(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def require_room(self, items: Iterable[BucketObject]) -> None:
        """Raises WorldlineError when the copies of `items` would make the mirrors larger than their limit."""
        if self.limit is None:
            return
        missing = sum(item.bytes for item in items if self.find(item) is None)
        used = sum(path.stat().st_size for path in self.folder.parent.rglob("*") if path.is_file())
        if used + missing > self.limit:
            raise WorldlineError(
                f"Mirroring {missing:,} bytes beside the {used:,} in {self.folder.parent} exceeds cache_bytes "
                f"{self.limit:,}: raise cache_bytes in the storage profile, delete that folder, or use --mirror none"
            )


def slug(url: str) -> str:
    """A bucket's URL as a file name; no two have the same."""
    root = url.rstrip("/")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", root) + "-" + hashlib.sha256(root.encode()).hexdigest()[:8]


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")
