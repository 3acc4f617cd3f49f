"""One object of a bucket as its listing shows it (size, checksums, version), and how fast a bucket gives bytes.

Bucket.list makes these objects; `throughput(root).rate()` is what `worldline fetch --plan` estimates times with.
"""

import base64
import binascii
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MD5_ETAG = re.compile(r"[0-9a-f]{32}")  # what S3 gives objects that were uploaded in one piece


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
