"""A file of a bucket that is read where it lies, as it is larger than the cache: by blocks, each verified.

A manifest's sha256 is of a whole file, which nobody reads here. Whoever stores an artefact therefore leaves beside its
files the sha256 of every block of its large ones (`.blocks.json`, verified by the bucket's own checksum), and a block
counts only where it has that hash. The last blocks stay in memory.
"""

import hashlib
import io
import json
import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import DamagedInTransit, retry_if_damaged
from pipelines.bucket.writing import WritableBucket
from pipelines.errors import WorldlineError
from pipelines.store.manifest import FileEntry

BLOCK = 1 << 20  # bytes

KEPT = 64  # blocks in memory, of each open file

BLOCKS_NAME = ".blocks.json"


def block_hashes(folder: Path, entries: Iterable[FileEntry]) -> bytes:
    """What `BLOCKS_NAME` holds of the files of more than one block; empty where there is none."""
    found = {entry.path: _hashes(folder / entry.path) for entry in entries if entry.bytes > BLOCK}
    return json.dumps({"bytes": BLOCK, "sha256": found}).encode() if found else b""


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

    @classmethod
    def of(cls, bucket: WritableBucket, at: str, entry: FileEntry) -> "StreamedFile":
        """A file of the artefact whose files lie at `at`. Raises WorldlineError where its blocks' hashes are not."""
        listed = bucket.find(f"{at}/{BLOCKS_NAME}")
        raw = b"{}" if listed is None else bucket.read(listed)
        try:
            known = json.loads(raw)
            block, hashes = int(known["bytes"]), tuple(known["sha256"][entry.path])
        except (ValueError, KeyError, TypeError) as error:
            raise WorldlineError(
                f"{bucket.root}/{at}/{entry.path} cannot be read piece by piece, as no hashes of its pieces are there: "
                "raise cache_bytes in the storage profile, or make that artefact anew with --remake"
            ) from error
        name = f"{at}/{entry.path}"
        return cls(bucket, BucketObject(f"{bucket.root}/{name}", name, entry.bytes, None, None), block, hashes)

    def __str__(self) -> str:
        return self.item.url

    def open(self) -> io.RawIOBase:
        """The file, from its beginning; reads may seek."""
        return _Blocks(self)

    def read_block(self, number: int) -> bytes:
        """One block, verified. Raises BucketError."""
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
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

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
            piece = self._block(number)[inside : inside + len(view) - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._at += len(piece)
        return done

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number] = self._file.read_block(number)
            if len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
