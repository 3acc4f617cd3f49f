"""Reads a gzip'd `.npy` from any fsspec URL, observations in blocks, so that a 7 GB array needs a few MB of memory.

A flipped bit shows only at the gzip trailer, after nearly all rows were yielded: whoever consumes `iter_blocks` must
write to a place that is not trusted until the iterator has ended. Every fault is a one-line WorldlineError.
Measured: 2 to 3 GB of frames per CPU second with isal and its checksum, in blocks of 3.6 MB.
Inflates with isal where installed (`pip install worldline[fast]`), else with the standard library.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import fsspec
import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import WorldlineError

DAMAGE: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
try:
    from isal import igzip, isal_zlib
except ImportError:
    open_gzip: Any = gzip.GzipFile
else:
    open_gzip = igzip.IGzipFile
    DAMAGE = (*DAMAGE, isal_zlib.error)  # type: ignore[arg-type]  # its stubs call the class an instance

BLOCK = 1 << 20  # bytes
SMALL_LIMIT = 1 << 31  # bytes; a log's actions or rewards are 4 MB, so more than this is no small array
REPAIR = "fetch that file again from its source"


@dataclass(frozen=True)
class Header:
    """What a `.npy` says about itself."""

    shape: tuple[int, ...]
    dtype: np.dtype


class _Counted(io.RawIOBase):
    """A raw stream that keeps the crc32c of the bytes read through it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        self.checksum = google_crc32c.Checksum()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.raw.read(len(buffer))
        buffer[: len(data)] = data
        self.checksum.update(data)
        return len(data)

    def drain(self) -> str:
        """Read what the inflater left, and return the hex crc32c of the whole file."""
        while self.read(BLOCK):
            pass
        return self.checksum.hexdigest().decode()


def read_header(url: str) -> Header:
    """Shape and dtype of a log file; reads its first bytes only."""
    with _inflated(url, None) as stream:
        return _header(stream, url)


def read_array(url: str, crc32c: str | None = None) -> NDArray[Any]:
    """The whole array of a small kind (action, reward, terminal, side files); checked against `crc32c` when given."""
    with _inflated(url, crc32c) as stream:
        header = _header(stream, url)
        size = prod(header.shape) * header.dtype.itemsize
        if size > SMALL_LIMIT:
            raise WorldlineError(f"{url} claims {size:,} bytes, a small array has at most {SMALL_LIMIT:,}: {REPAIR}")
        parts, left = [], size
        while left and (part := stream.read(min(left, BLOCK))):  # grows with what is there, not with what is claimed
            parts.append(part)
            left -= len(part)
        _finish(stream, url, left)
        return np.frombuffer(bytearray().join(parts), header.dtype).reshape(header.shape)


def iter_blocks(url: str, rows_per_block: int = 512, crc32c: str | None = None) -> Iterator[NDArray[Any]]:
    """Yield the array as blocks of up to `rows_per_block` rows, in order. A block is valid until the next is asked for.

    Nothing that was yielded may be trusted before the iterator ends without an error.
    """
    with _inflated(url, crc32c) as stream:
        header = _header(stream, url)
        rows, row_bytes = header.shape[0] if header.shape else 0, prod(header.shape[1:]) * header.dtype.itemsize
        if min(rows_per_block, rows) * row_bytes > SMALL_LIMIT:
            raise WorldlineError(f"{url} claims {row_bytes:,} bytes a row, too many for blocks of rows: {REPAIR}")
        buffer = bytearray(min(rows_per_block, max(rows, 1)) * row_bytes)
        for start in range(0, rows, rows_per_block):
            count = min(rows_per_block, rows - start)
            view = memoryview(buffer)[: count * row_bytes]
            _finish_block(stream, url, view)
            yield np.frombuffer(view, header.dtype).reshape(count, *header.shape[1:])
        _finish(stream, url, 0)


def crc32c_of_url(url: str) -> str:
    """Hex crc32c of the object's own (compressed) bytes."""
    with _opened(url) as raw:
        return _Counted(raw).drain()


@contextmanager
def _opened(url: str) -> Iterator[IO[bytes]]:
    try:
        with fsspec.open(url, "rb") as raw:
            yield raw
    except FileNotFoundError as error:
        raise WorldlineError(f"{url} does not exist: {REPAIR}, or list the bucket again") from error
    except (PermissionError, IsADirectoryError) as error:
        raise WorldlineError(f"{url} cannot be read ({error.strerror}): allow reading it, or fetch it again") from error


@contextmanager
def _inflated(url: str, crc32c: str | None) -> Iterator[IO[bytes]]:
    """The inflated bytes; turns every kind of damage into one line, then compares the compressed bytes' crc32c."""
    with _opened(url) as raw:
        counted = _Counted(raw)
        try:
            with open_gzip(fileobj=io.BufferedReader(counted, BLOCK), mode="rb") as stream:
                yield stream
        except EOFError as error:
            raise WorldlineError(f"{url} ends before its gzip trailer (truncated): {REPAIR}") from error
        except DAMAGE as error:
            raise WorldlineError(f"{url} is damaged gzip ({error}): {REPAIR}") from error
        if crc32c is not None and (found := counted.drain()) != crc32c:
            raise WorldlineError(f"{url} has crc32c {found}, the object list says {crc32c}: {REPAIR}")


def _header(stream: IO[bytes], url: str) -> Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except (ValueError, KeyError) as error:
        raise WorldlineError(f"{url} holds no .npy array ({_one_line(error)}): {REPAIR}") from error
    if dtype.hasobject:
        raise WorldlineError(f"{url} holds pickled objects, which are never read: use plain number arrays")
    if (fortran and len(shape) > 1) or any(size < 0 for size in shape):
        raise WorldlineError(f"{url} stores shape {shape} column by column or negative: save it in C order")
    return Header(shape, dtype)


def _finish_block(stream: IO[bytes], url: str, view: memoryview) -> None:
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            _finish(stream, url, len(view) - filled)
        filled += count


def _finish(stream: IO[bytes], url: str, missing: int) -> None:
    """Read past the last row: this is what makes the inflater check its trailer."""
    if missing:
        raise WorldlineError(f"{url} holds {missing:,} bytes fewer than its header claims: {REPAIR}")
    if stream.read(1):
        raise WorldlineError(f"{url} has bytes after the array that its header describes: {REPAIR}")


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
