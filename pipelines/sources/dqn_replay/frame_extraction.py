"""The wanted frames of one observation file, packed into chunks, until every file of the game has passed its checksum.

A spool is two files. `NAME.chunks` holds packed chunks one after another. `NAME.npz` comes last, by rename, and vouches
for them: which chunk of the trajectory file each is, which of its 16 frames it has, and its checksum. Chunks that
several files share are completed when spools are merged, always in the same order: the trajectory file is then the
same for any number of workers. A spool outlives a kill, so a run that goes on reads no file twice.
Cost: 1 MB of chunks and 4 MB of rows in memory; the packed frames on disk, until they are merged.
"""

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import google_crc32c
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.episodes.trajectories import CHUNK, pack, unpack
from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.listing import RemoteObject
from pipelines.sources.dqn_replay.log_reader import iter_blocks
from pipelines.sources.dqn_replay.ring_log import FRAME
from pipelines.store.files import sync

RECORD = np.dtype([("chunk", "<i8"), ("mask", "<u2"), ("offset", "<i8"), ("bytes", "<i4"), ("crc32c", "<u4")])

EDGE = np.dtype([("slot", "<i8"), ("crc32c", "<u4")])

FULL = (1 << CHUNK) - 1


@dataclass(frozen=True)
class Order:
    """What is wanted of one observation file: `pieces` as `draw.placed` gives them, any two disjoint or equal in rows.

    `edges` (sorted) are the slots whose frames get a checksum of their own.
    """

    item: RemoteObject
    bucket: Bucket
    pieces: pd.DataFrame
    edges: NDArray[np.int64]


@dataclass(frozen=True)
class Spool:
    """A finished spool. `records` (R,) RECORD, `edges` (E,) EDGE; `inflated` counts bytes of frames that went by."""

    path: Path
    records: NDArray[np.void]
    edges: NDArray[np.void]
    inflated: int

    @classmethod
    def find(cls, path: Path) -> "Spool | None":
        """The spool at `path` (without suffix) when it was finished."""
        try:
            with np.load(_index(path), allow_pickle=False) as found:
                return cls(path, found["records"], found["edges"], int(found["inflated"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def open(self) -> IO[bytes]:
        """Its packed chunks."""
        return self.path.with_suffix(".chunks").open("rb")

    def read(self, file: IO[bytes], offset: int, size: int, crc32c: int) -> bytes:
        """One packed chunk. Raises WorldlineError when it is not what was written."""
        packed = os.pread(file.fileno(), size, offset)
        if google_crc32c.value(packed) != crc32c:
            _index(self.path).unlink(missing_ok=True)
            raise WorldlineError(f"{file.name} reads back differently: check the disk and run the same command again")
        return packed


@dataclass
class _Packing:
    """A spool in the making."""

    file: IO[bytes]
    edges: NDArray[np.int64]
    records: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    noted: list[tuple[int, int]] = field(default_factory=list)
    open: dict[int, tuple[NDArray[np.uint8], int]] = field(default_factory=dict)  # chunk -> frames, which are there

    def put(self, slot: int, frames: NDArray[np.uint8]) -> None:
        """Frames (n,84,84) for slot, slot + 1, ...: whole chunks are packed from where they lie."""
        low, high = np.searchsorted(self.edges, (slot, slot + len(frames)))
        for edge in self.edges[low:high].tolist():
            self.noted.append((edge, google_crc32c.value(frames[edge - slot].tobytes())))
        while len(frames):
            chunk, at = divmod(slot, CHUNK)
            count = min(CHUNK - at, len(frames))
            if count == CHUNK:
                self._write(chunk, frames[:CHUNK], FULL)
            else:
                self._complete(chunk, at, frames[:count])
            slot, frames = slot + count, frames[count:]

    def close(self) -> None:
        """Write the chunks that are still open, so far as they go."""
        for chunk, (frames, mask) in sorted(self.open.items()):
            self._write(chunk, frames, mask)

    def _complete(self, chunk: int, at: int, frames: NDArray[np.uint8]) -> None:
        if chunk not in self.open:
            self.open[chunk] = np.zeros((CHUNK, *FRAME), np.uint8), 0
        there, mask = self.open.pop(chunk)
        there[at : at + len(frames)] = frames
        mask |= ((1 << len(frames)) - 1) << at
        if mask == FULL:
            self._write(chunk, there, mask)
        else:
            self.open[chunk] = there, mask

    def _write(self, chunk: int, frames: NDArray[np.uint8], mask: int) -> None:
        packed = pack(frames)
        self.records.append((chunk, mask, self.file.tell(), len(packed), google_crc32c.value(packed)))
        self.file.write(packed)


def spool(order: Order, path: Path, advance: Callable[[int], None]) -> Spool:
    """Stream one observation file past its wanted rows, into the spool `path`; `advance(n)` is called between blocks.

    Can be run again after DamagedInTransit. Raises WorldlineError for a file that is damaged, replaced or too short.
    """
    pieces = order.pieces.sort_values(["start", "slot"])
    starts, stops, slots = (pieces[name].to_numpy() for name in ("start", "stop", "slot"))
    row, taken, data = 0, 0, path.with_suffix(".chunks")
    _index(path).unlink(missing_ok=True)
    try:
        with data.open("wb") as file:
            packing = _Packing(file, order.edges)
            for block in iter_blocks(order.item, order.bucket):
                end, before = row + len(block), taken
                for number in range(np.searchsorted(stops, row, "right"), np.searchsorted(starts, end, "left")):
                    low, high = max(starts[number], row), min(stops[number], end)
                    packing.put(int(slots[number] + low - starts[number]), block[low - row : high - row])
                    taken += int(high - low)
                advance(taken - before)
                row = end
            if len(stops) and row < stops[-1]:
                raise WorldlineError(
                    f"{order.item.url} has {row} rows, row {stops[-1] - 1} is needed: the bucket changed; "
                    "fetch the replay again"
                )
            packing.close()
    except BaseException:
        advance(-taken)
        data.unlink(missing_ok=True)
        raise
    found = Spool(path, np.array(packing.records, RECORD), np.array(packing.noted, EDGE), row * int(np.prod(FRAME)))
    _vouch(found)
    return found


def merge(spools: Sequence[Spool], total: int) -> Iterator[tuple[int, bytes]]:
    """Every chunk of a trajectory file of `total` frames with its packed bytes, ascending.

    Chunks hold 16 frames, or `total` where that is less. Raises WorldlineError for frames that are absent or twice
    there, and for a spool that reads back differently.
    """
    records = np.concatenate([found.records for found in spools])
    owners = np.repeat(np.arange(len(spools), dtype=np.int32), [len(found.records) for found in spools])
    order = np.lexsort((owners, records["chunk"]))
    records, owners = records[order], owners[order]
    chunks, firsts = np.unique(records["chunk"], return_index=True)
    wanted = np.arange(-(-total // CHUNK))
    if not np.array_equal(chunks, wanted):
        raise WorldlineError(f"{len(np.setdiff1d(wanted, chunks))} chunks of drawn frames are absent: fetch again")
    with ExitStack() as stack:
        files = [stack.enter_context(found.open()) for found in spools]
        for chunk, first, stop in zip(chunks.tolist(), firsts, np.append(firsts[1:], len(records)), strict=True):
            parts = [
                (mask, spools[owner].read(files[owner], *where))
                for owner, (_, mask, *where) in zip(owners[first:stop], records[first:stop].tolist(), strict=True)
            ]
            length = min(CHUNK, total - chunk * CHUNK)
            if total >= CHUNK and len(parts) == 1 and parts[0][0] == (1 << length) - 1:
                yield chunk, parts[0][1]
            else:
                yield chunk, _merged(chunk, parts, length, min(CHUNK, total))


def _merged(chunk: int, parts: Sequence[tuple[int, bytes]], length: int, size: int) -> bytes:
    """One chunk of `size` frames, of which `length` exist, from what several files have of it."""
    frames, there = np.zeros((CHUNK, *FRAME), np.uint8), 0
    for mask, packed in parts:
        if there & mask:
            raise WorldlineError(f"Frames of chunk {chunk} are drawn twice: fetch the replay again")
        chosen = (mask >> np.arange(CHUNK)) & 1 == 1
        frames[chosen] = unpack(packed, FRAME)[chosen]
        there |= mask
    if there != (1 << length) - 1:
        raise WorldlineError(f"Frames of chunk {chunk} are absent: fetch the replay again")
    return pack(frames[:size])


def _index(path: Path) -> Path:
    return path.with_suffix(".npz")


def _vouch(found: Spool) -> None:
    """Write the index last and by rename, after the disk has the chunks."""
    sync(found.path.with_suffix(".chunks"))
    aside = found.path.with_suffix(".aside.npz")
    np.savez(aside, records=found.records, edges=found.edges, inflated=found.inflated)
    sync(aside)
    aside.replace(_index(found.path))
    sync(found.path.parent)
