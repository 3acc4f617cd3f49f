"""Files of a bucket that are read where they lie, as the cache has no room for them: by blocks, each verified.

A manifest's sha256 is of a whole file, which nobody reads here. Whoever stores an artefact therefore leaves beside its
files the sha256 of every block of its large ones (`.blocks.json`, verified by the bucket's own checksum), and a block
counts only where it has that hash. A file of one block has the manifest's. The last blocks stay in memory.
"""

import hashlib
import io
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import DamagedInTransit, retry_if_damaged
from pipelines.bucket.writing import WritableBucket
from pipelines.errors import WorldlineError
from pipelines.store.manifest import FileEntry

BLOCK = 1 << 20  # bytes

KEPT = 128  # blocks in memory, of all files of a process together

BLOCKS_NAME = ".blocks.json"


def block_hashes(folder: Path, entries: Iterable[FileEntry]) -> bytes:
    """What `BLOCKS_NAME` holds of the files of more than one block; empty where there is none."""
    found = {entry.path: _hashes(folder / entry.path) for entry in entries if entry.bytes > BLOCK}
    return json.dumps({"bytes": BLOCK, "sha256": found}).encode() if found else b""


def streamed(bucket: WritableBucket, at: str, entries: Sequence[FileEntry]) -> "list[StreamedFile]":
    """Files of the artefact whose files lie at `at`. Raises WorldlineError where the hashes of their blocks are not."""
    known: Any = {}
    if any(entry.bytes > BLOCK for entry in entries) and (listed := bucket.find(f"{at}/{BLOCKS_NAME}")) is not None:
        with suppress(ValueError):
            known = json.loads(bucket.read(listed))
    found = []
    for entry in entries:
        name = f"{at}/{entry.path}"
        item = BucketObject(f"{bucket.root}/{name}", name, entry.bytes, None, None)
        block, hashes = BLOCK, (entry.sha256,)
        if entry.bytes > BLOCK:
            try:
                block, hashes = int(known["bytes"]), tuple(known["sha256"][entry.path])
            except (ValueError, KeyError, TypeError) as error:
                raise WorldlineError(
                    f"{item.url} cannot be read piece by piece, as no hashes of its pieces are there: raise "
                    "cache_bytes in the storage profile, or make that artefact anew with --remake"
                ) from error
        found.append(StreamedFile(bucket, item, block, hashes))
    return found


def _hashes(path: Path) -> list[str]:
    with path.open("rb") as file:
        return [hashlib.sha256(block).hexdigest() for block in iter(lambda: file.read(BLOCK), b"")]


@dataclass(frozen=True)
class StreamedFile:
    """One file, by its blocks' hashes. May be pickled, and opened in every process that has it."""

    bucket: WritableBucket
    item: BucketObject
    block: int
    sha256: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        return self.item.url

    def open(self) -> io.RawIOBase:
        """The file, from its beginning; reads may seek."""
        return _Blocks(self)

    def read_block(self, number: int) -> bytes:
        """One block, verified, or as it was read before. Raises BucketError."""
        return _blocks.get(self.sha256[number], lambda: self._fetch(number))

    def _fetch(self, number: int) -> bytes:
        start = number * self.block

        def once() -> bytes:
            content = self.bucket.read_range(self.item, start, start + self.block)
            if hashlib.sha256(content).hexdigest() != self.sha256[number]:
                raise DamagedInTransit(
                    f"{self.item.url}: bytes {start:,} to {start + len(content):,} are not those that were stored: "
                    "make that artefact anew with --remake"
                )
            return content

        return retry_if_damaged(once)


class _Blocks(io.RawIOBase):
    """A seekable stream over the blocks of a file."""

    def __init__(self, file: StreamedFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.item.bytes}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._at < self._file.item.bytes:
            number, inside = divmod(self._at, self._file.block)
            piece = self._file.read_block(number)[inside : inside + len(view) - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._at += len(piece)
        return done


class _Kept:
    """The blocks that were asked for last, by their sha256. For several threads."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[str, bytes] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        """After a fork, in which another thread may have held it."""
        self._lock = threading.Lock()

    def get(self, sha256: str, fetch: Callable[[], bytes]) -> bytes:
        with self._lock:
            found = self._blocks.get(sha256)
        if found is None:
            found = fetch()
        with self._lock:
            self._blocks[sha256] = found
            self._blocks.move_to_end(sha256)
            if len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)
        return found


_blocks = _Kept()
os.register_at_fork(after_in_child=_blocks.renew_lock)
