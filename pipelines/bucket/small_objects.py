"""The small objects below one folder of a bucket, such as manifests, as they are now.

One listing tells which there are and of which versions; the bytes of a version are asked for once and kept on this
machine, where their checksum is compared whenever they are read. A listing holds for a few seconds. What it does not
have is asked for by name, so that nothing that another machine wrote just now is taken for missing.
"""

import hashlib
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import google_crc32c

from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import TRIES, Absent, BucketError, ObjectReplaced
from pipelines.bucket.writing import WritableBucket

FRESH = 5.0  # seconds that a listing holds

WORKERS = 8


class SmallObjects:
    """Names are relative to `folder` of the bucket. `kept` is where bytes are kept. May be shared by threads."""

    def __init__(self, bucket: WritableBucket, folder: str, kept: Path) -> None:
        self.bucket, self.folder, self.kept = bucket, folder, kept
        self._known: dict[str, BucketObject] = {}
        self._listed = -FRESH
        self._lock = threading.RLock()

    def url(self, name: str) -> str:
        """Of one object."""
        return f"{self.bucket.root}/{self.folder}/{name}"

    def names(self) -> list[str]:
        """All of them, sorted. Raises BucketError."""
        with self._lock:
            if time.monotonic() - self._listed >= FRESH:
                self._known = self.bucket.below(self.folder)
                self._listed = time.monotonic()
            return sorted(self._known)

    def item(self, name: str) -> BucketObject | None:
        """Size, checksums and version of one; None where there is none. Raises BucketError."""
        self.names()
        with self._lock:
            if name not in self._known and (found := self.bucket.find(f"{self.folder}/{name}")) is not None:
                self._known[name] = found
            return self._known.get(name)

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Its bytes and version; None where there is none. Raises BucketError."""
        for _ in range(TRIES):
            item = self.item(name)
            if item is None:
                return None
            try:
                return self._bytes(name, item), str(item.version)
            except (Absent, ObjectReplaced):  # since it was listed
                self.forget(name)
        raise BucketError(f"{self.url(name)} is another one with every look: run the same command again")

    def fetch(self, names: Iterable[str]) -> None:
        """Have the bytes of many here, several at a time; whoever reads one that fails is told why."""
        with ThreadPoolExecutor(WORKERS, "manifests") as pool:
            for future in [pool.submit(self.read, name) for name in names]:
                future.exception()

    def write(self, name: str, content: bytes, former: BucketObject | None) -> bool:
        """Write it where `former` stands, or nothing does (None). False where another stands there by now."""
        made = self.bucket.replace(f"{self.folder}/{name}", content, former)
        if made is None:
            self.forget(name)
            return False
        self._note(name, made)
        return True

    def put(self, name: str, content: bytes) -> None:
        """Write it, whatever stands there."""
        self._note(name, self.bucket.put(f"{self.folder}/{name}", content))

    def remove(self, name: str, version: str | None = None) -> bool:
        """Remove it, where it is of that version if one is given; whether it was."""
        self.forget(name)
        return self.bucket.remove(f"{self.folder}/{name}", version)

    def forget(self, name: str) -> None:
        """Ask the bucket when it is wanted next."""
        with self._lock:
            self._known.pop(name, None)

    def _note(self, name: str, made: BucketObject) -> None:
        with self._lock:
            self._known[name] = made

    def _bytes(self, name: str, item: BucketObject) -> bytes:
        path = self.kept / f"{name}@{quote(str(item.version), safe='')}"
        try:
            if _is(raw := path.read_bytes(), item):
                return raw
        except OSError:
            pass
        raw = self.bucket.read(item)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{uuid.uuid4().hex[:8]}")
        aside.write_bytes(raw)
        for old in path.parent.glob(f"{path.name.rpartition('@')[0]}@*"):
            old.unlink(missing_ok=True)
        aside.replace(path)
        return raw


def _is(raw: bytes, item: BucketObject) -> bool:
    """Whether these are the bytes that the listing tells of, as far as it does."""
    if len(raw) != item.bytes:
        return False
    if item.crc32c:
        return google_crc32c.Checksum(raw).hexdigest().decode() == item.crc32c
    return not item.md5 or hashlib.md5(raw, usedforsecurity=False).hexdigest() == item.md5
