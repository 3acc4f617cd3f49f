"""A stream of one object's bytes that is compared with the listing at its end.

Ranges of 4 MiB are read one ahead in a thread, so that network and inflating overlap. A dropped connection costs one
range.
"""

import hashlib
import io
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import google_crc32c

from pipelines.bucket.bucket_object import BucketObject

CHUNK = 4 << 20  # bytes

FILE_CHUNK = 1 << 20

Chunks = Generator[bytes, None, None]


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
