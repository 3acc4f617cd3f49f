"""Reads a gzip'd `.npy` from a bucket. Observations come in blocks, so that a 7 GB array needs a few MB of memory.

A flipped bit shows only at the gzip trailer, after nearly all rows were yielded. Whoever consumes `iter_blocks` must
therefore write to a place that nobody trusts until the iterator has ended, and repeat the pass with
`retry.retry_if_damaged`. Local files, copies in a mirror and remote objects are read alike.

Every fault is a one-line WorldlineError whose repair fits its cause: what was cut or damaged on its way is to be
fetched again; a file that is whole and was written otherwise would come back the same. What is written otherwise and
can mean one thing only is read: an array over several gzip members, and trailing dimensions of 1.
"""

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
from pipelines.bucket.retry import retry_if_damaged
from pipelines.errors import WorldlineError
from pipelines.sources.inflate import ANOTHER, FAULTS, SMALLEST, WRITTEN_SO, explain, inflated, one_line

BLOCK = 1 << 20  # bytes

HEAD = 1 << 14  # bytes; holds the header of any array, compressed or not

SMALL_LIMIT = 1 << 31  # bytes; a log's actions or rewards are 4 MB, so more than this is no small array


@dataclass(frozen=True)
class Header:
    """Shape and dtype that a `.npy` states in its first bytes; the shape without trailing dimensions of 1."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """Size of the whole array."""
        return prod(self.shape) * self.dtype.itemsize


def read_header(item: BucketObject | str, bucket: Bucket | None = None) -> Header:
    """Shape and dtype of a log file, which may be a URL. Only its first bytes are read, which no checksum covers.

    Raises WorldlineError for what is no array of numbers in C order, BucketError when it cannot be read.
    """
    item, bucket = _located(item, bucket)
    for _ in range(2):  # these bytes have no checksum: what looks damaged is asked for once more
        data = bucket.read_range(item, 0, HEAD)
        try:
            return _head(data, item.url)
        except FAULTS as error:
            fault = error
    raise WorldlineError(explain(item, bucket, fault)) from fault


def read_array(item: BucketObject | str, bucket: Bucket | None = None) -> NDArray[Any]:
    """The whole array of a small kind (action, reward, terminal, side files); `item` may be a URL.

    Raises WorldlineError for a damaged or oversized array, BucketError when it cannot be read.
    """
    found, home = _located(item, bucket)
    return retry_if_damaged(lambda: _read_array(found, home))


def _read_array(item: BucketObject, bucket: Bucket) -> NDArray[Any]:
    with _inflated(item, bucket) as (stream, header):
        if header.bytes > SMALL_LIMIT:
            raise WorldlineError(
                f"{item.url} claims {header.bytes:,} bytes, a small array has at most {SMALL_LIMIT:,}: {ANOTHER}"
            )
        parts, left = [], header.bytes
        while left and (
            part := stream.read(min(left, BLOCK))
        ):  # memory grows with what is there, not with what is claimed
            parts.append(part)
            left -= len(part)
        if left:
            raise _too_few(item.url, left)
        _finish(stream, item.url)
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
    with _inflated(item, bucket) as (stream, header):
        rows, row_bytes = header.shape[0] if header.shape else 0, prod(header.shape[1:]) * header.dtype.itemsize
        if min(rows_per_block, rows) * row_bytes > SMALL_LIMIT:
            raise WorldlineError(f"{url} claims {row_bytes:,} bytes a row, too many for blocks of rows: {ANOTHER}")
        buffer = bytearray(min(rows_per_block, max(rows, 1)) * row_bytes)
        for start in range(0, rows, rows_per_block):
            count = min(rows_per_block, rows - start)
            view = memoryview(buffer)[: count * row_bytes]
            _fill(stream, url, view)
            yield np.frombuffer(view, header.dtype).reshape(count, *header.shape[1:])
        _finish(stream, url)


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
def _inflated(item: BucketObject, bucket: Bucket) -> Iterator[tuple[IO[bytes], Header]]:
    """The inflated bytes behind the header, and that. Damage of any kind is one line."""
    found: list[Header] = []
    with inflated(item, bucket, lambda: found[0].bytes if found else None) as stream:
        found.append(_header(stream, item.url))
        yield stream, found[0]


def _head(data: bytes, url: str) -> Header:
    """The header from the first compressed bytes of a file. Raises one of FAULTS."""
    head, inflater = b"", zlib.decompressobj(wbits=31)
    while data and len(head) < HEAD:
        head += inflater.decompress(data, HEAD)
        data = inflater.unused_data.lstrip(b"\0")
        if inflater.eof:  # an array may lie in several members, the first of which may be tiny
            inflater = zlib.decompressobj(wbits=31)
        elif len(head) < SMALLEST:
            raise EOFError
    return _header(io.BytesIO(head), url)


def _header(stream: IO[bytes], url: str) -> Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except (ValueError, KeyError) as error:
        raise WorldlineError(f"{url} holds no .npy array ({one_line(error)}): {ANOTHER}") from error
    if dtype.hasobject:
        raise WorldlineError(f"{url} holds pickled objects, which are never read: use plain number arrays")
    if (fortran and len(shape) > 1) or any(size < 0 for size in shape):
        raise WorldlineError(f"{url} stores shape {shape} column by column or negative: save it in C order")
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return Header(shape, dtype)


def _fill(stream: IO[bytes], url: str, view: memoryview) -> None:
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise _too_few(url, len(view) - filled)
        filled += count


def _finish(stream: IO[bytes], url: str) -> None:
    """Read past the last row, which makes the inflater check its trailer."""
    if stream.read(1):
        raise WorldlineError(
            f"{url} has bytes after the array that its header describes, in the same or in another gzip member: "
            f"{WRITTEN_SO}; save the array alone, or take that log from another copy"
        )


def _too_few(url: str, missing: int) -> WorldlineError:
    return WorldlineError(
        f"{url} is whole gzip and holds {missing:,} bytes fewer than its header claims: {WRITTEN_SO}; take that "
        "log from another copy, or remove all of its files"
    )
