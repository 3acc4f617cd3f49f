"""Reads a gzip'd `.npy` from a bucket. Observations come in blocks, so that a 7 GB array needs a few MB of memory.

A flipped bit shows only at the gzip trailer, after nearly all rows were yielded. Whoever consumes `iter_blocks` must
therefore write to a place that nobody trusts until the iterator has ended, and repeat the pass with
`retry.retry_if_damaged`. Local files, copies in a mirror and remote objects are read alike. Every fault is a one-line
WorldlineError. isal inflates where it is installed (`pip install worldline[fast]`), else the standard library does.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import BucketError, DamagedInTransit, retry_if_damaged
from pipelines.errors import WorldlineError

DAMAGE: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)

try:
    from isal import igzip, isal_zlib
except ImportError:
    open_gzip: Any = gzip.GzipFile
else:
    open_gzip = igzip.IGzipFile
    DAMAGE = (*DAMAGE, isal_zlib.error)  # type: ignore[arg-type]  # its stubs call the class an instance

FAULTS: tuple[type[Exception], ...] = (WorldlineError, *DAMAGE)

BLOCK = 1 << 20  # bytes

HEAD = 1 << 14  # bytes; holds the header of any array, compressed or not

SMALL_LIMIT = 1 << 31  # bytes; a log's actions or rewards are 4 MB, so more than this is no small array

REPAIR = "fetch that file again from its source"


@dataclass(frozen=True)
class Header:
    """Shape and dtype that a `.npy` states in its first bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_header(item: BucketObject | str, bucket: Bucket | None = None) -> Header:
    """Shape and dtype of a log file, which may be a URL. Only its first bytes are read, which no checksum covers.

    Raises WorldlineError for what is no array of numbers in C order, BucketError when it cannot be read.
    """
    item, bucket = _located(item, bucket)
    data = bucket.read_range(item, 0, HEAD)
    try:
        return _head(data, item.url)
    except WorldlineError:
        if (again := bucket.read_range(item, 0, HEAD)) == data:
            raise
        return _head(again, item.url)


def read_array(item: BucketObject | str, bucket: Bucket | None = None) -> NDArray[Any]:
    """The whole array of a small kind (action, reward, terminal, side files); `item` may be a URL.

    Raises WorldlineError for a damaged or oversized array, BucketError when it cannot be read.
    """
    found, home = _located(item, bucket)
    return retry_if_damaged(lambda: _read_array(found, home))


def _read_array(item: BucketObject, bucket: Bucket) -> NDArray[Any]:
    with _inflated(item, bucket) as stream:
        header = _header(stream, item.url)
        size = prod(header.shape) * header.dtype.itemsize
        if size > SMALL_LIMIT:
            raise WorldlineError(
                f"{item.url} claims {size:,} bytes, a small array has at most {SMALL_LIMIT:,}: {REPAIR}"
            )
        parts, left = [], size
        while left and (
            part := stream.read(min(left, BLOCK))
        ):  # memory grows with what is there, not with what is claimed
            parts.append(part)
            left -= len(part)
        _finish(stream, item.url, left)
    return np.frombuffer(bytearray().join(parts), header.dtype).reshape(header.shape)


def iter_blocks(
    item: BucketObject | str, bucket: Bucket | None = None, rows_per_block: int = 512
) -> Iterator[NDArray[Any]]:
    """Yield the array as blocks of up to `rows_per_block` rows, in order. A block is valid until the next is asked for.

    Nothing that was yielded may be trusted before the iterator ends without an error. Raises DamagedInTransit when
    another pass may help (`retry.retry_if_damaged`), ObjectReplaced when the bucket must be listed again, and
    WorldlineError for a file that is damaged itself.
    """
    item, bucket = _located(item, bucket)
    url = item.url
    with _inflated(item, bucket) as stream:
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


def crc32c_of_object(item: BucketObject | str, bucket: Bucket | None = None) -> str:
    """Hex crc32c of the object's own (compressed) bytes, all of which are read. Raises BucketError as `iter_blocks`."""
    found, home = _located(item, bucket)

    def read() -> str:
        with home.open(found) as reader:
            return reader.verify()

    return retry_if_damaged(read)


def _located(item: BucketObject | str, bucket: Bucket | None) -> tuple[BucketObject, Bucket]:
    """The object and its bucket. A plain URL is looked up."""
    if isinstance(item, str):
        root, _, name = item.rpartition("/")
        bucket = bucket or Bucket.of(root)
        return bucket.stat(name), bucket
    if bucket is None:
        raise ValueError(f"{item.url} was given without its bucket")
    return item, bucket


@contextmanager
def _inflated(item: BucketObject, bucket: Bucket) -> Iterator[IO[bytes]]:
    """The inflated bytes. Damage of any kind is one line; if the compressed bytes came wrong, it is said of them."""
    url = item.url
    with bucket.open(item) as reader:
        buffered = io.BufferedReader(reader, BLOCK)  # kept in a variable: when it is collected, it closes the reader
        try:
            with open_gzip(fileobj=buffered, mode="rb") as stream:
                yield stream
        except BucketError:
            raise
        except FAULTS as error:
            reader.verify()  # raises when other bytes came than were listed: the object is not to blame then
            damage = DamagedInTransit if reader.unchecked else WorldlineError
            raise damage(_damage(url, error)) from error
        reader.verify()


def _damage(url: str, error: Exception) -> str:
    if isinstance(error, WorldlineError):
        return str(error)
    if isinstance(error, EOFError):
        return f"{url} ends before its gzip trailer (truncated): {REPAIR}"
    return f"{url} is damaged gzip ({error}): {REPAIR}"


def _head(data: bytes, url: str) -> Header:
    """The header from the first compressed bytes of a file."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        return _header(io.BytesIO(inflater.decompress(data, HEAD)), url)
    except zlib.error as error:
        raise WorldlineError(_damage(url, error)) from error


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
    """Read past the last row, which makes the inflater check its trailer."""
    if missing:
        raise WorldlineError(f"{url} holds {missing:,} bytes fewer than its header claims: {REPAIR}")
    if stream.read(1):
        raise WorldlineError(f"{url} has bytes after the array that its header describes: {REPAIR}")


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
