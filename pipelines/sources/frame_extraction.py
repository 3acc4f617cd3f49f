"""Extracts the wanted frames of a bucket's files into packed chunks, and merges the chunks into a trajectory file.

The frames that are extracted from one file lie in two files. `NAME.chunks` holds packed chunks one after
another. `NAME.npz` is written last, by rename, and makes them valid: for each chunk it says which chunk of the
trajectory file it is, which of its 16 frames it has, and its checksum. A chunk that several files share is
completed when all are merged, always in the same order, so the trajectory file is the same for any number of workers.
Extracted frames survive a kill: a run that goes on reads no file twice.
In memory are 1 MB of chunks and 4 MB of rows for each file that is read; the packed frames lie on disk until merged.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import google_crc32c
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.download import StoppedError, in_threads
from pipelines.bucket.retry import retry_if_damaged
from pipelines.episodes.trajectories import CHUNK, pack, unpack
from pipelines.errors import BAD_NPZ, WorldlineError, may_pass, not_now
from pipelines.progress import Advance
from pipelines.store.files import sync

RECORD = np.dtype([("chunk", "<i8"), ("mask", "<u2"), ("offset", "<i8"), ("bytes", "<i4"), ("crc32c", "<u4")])

EDGE = np.dtype([("slot", "<i8"), ("crc32c", "<u4")])

FULL = (1 << CHUNK) - 1

FRAME = (84, 84)  # (height, width) of what every source holds

Blocks = Iterator[tuple[int, NDArray[np.uint8]]]  # first row of each block, its frames (n, 84, 84); ascending


@dataclass(frozen=True)
class ExtractionPlan:
    """Which rows of one file go where.

    blocks: reads the file from its beginning; the rows of `pieces` are all in it. pieces: as `downsample.place_pieces`
    gives them; any two are disjoint or equal in rows. edges (E,), sorted: the slots whose frames get a checksum of
    their own.
    """

    item: BucketObject
    blocks: Callable[[], Blocks]
    pieces: pd.DataFrame
    edges: NDArray[np.int64]


@dataclass(frozen=True)
class ExtractedFrames:
    """The frames of one file, finished.

    records (R,) RECORD: one per chunk. edges (E,) EDGE. inflated: the bytes of all frames that were inflated.
    """

    path: Path
    records: NDArray[np.void]
    edges: NDArray[np.void]
    inflated: int

    @classmethod
    def find(cls, path: Path) -> "ExtractedFrames | None":
        """The extracted frames at `path` (without suffix), None when they were not finished or are damaged.

        Raises MayPass where the disk failed: hours of extraction are not given up for that.
        """
        try:
            with np.load(_index(path), allow_pickle=False) as found:
                return cls(path, found["records"], found["edges"], int(found["inflated"]))
        except (OSError, KeyError, *BAD_NPZ) as error:
            if may_pass(error):
                raise not_now(_index(path), error) from error
            return None

    def open(self) -> IO[bytes]:
        """The file of packed chunks."""
        return self.path.with_suffix(".chunks").open("rb")

    def read(self, file: IO[bytes], offset: int, size: int, crc32c: int) -> bytes:
        """One packed chunk. Raises WorldlineError when it is not what was written; the file is extracted anew then."""
        packed = os.pread(file.fileno(), size, offset)
        if google_crc32c.value(packed) != crc32c:
            _index(self.path).unlink(missing_ok=True)
            raise WorldlineError(f"{file.name} reads back differently: check the disk and run the same command again")
        return packed


@dataclass
class _ChunkPacker:
    """Packs frames into chunks while one file is read."""

    file: IO[bytes]
    edges: NDArray[np.int64]
    records: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    noted: list[tuple[int, int]] = field(default_factory=list)
    open: dict[int, tuple[NDArray[np.uint8], int]] = field(
        default_factory=dict
    )  # chunk -> frames, mask of those it has

    def put(self, slot: int, frames: NDArray[np.uint8]) -> None:
        """Add frames (n, 84, 84) for slot, slot + 1, ...; whole chunks are packed without a copy."""
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
        """Write the chunks that are not complete, with the frames that they have."""
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


def extract_frames(plan: ExtractionPlan, path: Path, advance: Callable[[int], None]) -> ExtractedFrames:
    """Read one file and keep its wanted frames at `path`; `advance(n)` is called after each block.

    It can be run again after DamagedInTransit. Raises WorldlineError for a file that is damaged, replaced or too short.
    """
    pieces = plan.pieces.sort_values(["start", "slot"])
    starts, stops, slots = (pieces[name].to_numpy() for name in ("start", "stop", "slot"))
    end, taken, inflated, data = 0, 0, 0, path.with_suffix(".chunks")
    _index(path).unlink(missing_ok=True)
    try:
        with data.open("wb") as file:
            packer = _ChunkPacker(file, plan.edges)
            for row, block in plan.blocks():
                end, before = row + len(block), taken
                for number in range(np.searchsorted(stops, row, "right"), np.searchsorted(starts, end, "left")):
                    low, high = max(starts[number], row), min(stops[number], end)
                    packer.put(int(slots[number] + low - starts[number]), block[low - row : high - row])
                    taken += int(high - low)
                advance(taken - before)
                inflated += block.nbytes
            if len(stops) and end < stops[-1]:
                raise WorldlineError(
                    f"{plan.item.url} has {end} rows, row {stops[-1] - 1} is needed: the bucket changed; "
                    "fetch the replay again"
                )
            packer.close()
    except BaseException:
        advance(-taken)
        data.unlink(missing_ok=True)
        raise
    found = ExtractedFrames(path, np.array(packer.records, RECORD), np.array(packer.noted, EDGE), inflated)
    _write_index(found)
    return found


def extract_all(plans: Sequence[ExtractionPlan], folder: Path, workers: int, advance: Advance) -> list[ExtractedFrames]:
    """The frames of every plan, extracted into `folder`, `workers` files at a time. Finished ones are kept.

    Raises WorldlineError as `extract_frames`; the first failure stops all. Threads suffice, because inflating, packing
    and reading release the interpreter's lock.
    """
    stop, lock = threading.Event(), threading.Lock()

    def step(count: int, held: bool = False) -> None:
        if stop.is_set() and count >= 0:
            raise StoppedError
        with lock:
            advance(count, held=held)

    def one(plan: ExtractionPlan) -> ExtractedFrames:
        path = folder / plan.item.name.replace("/", "@").replace(".", "-")
        if (found := ExtractedFrames.find(path)) is not None:
            step(int((plan.pieces["stop"] - plan.pieces["start"]).sum()), held=True)
            return found
        return retry_if_damaged(lambda: extract_frames(plan, path, step))

    return in_threads(one, plans, workers, stop, "extract")


def merge_chunks(extracted: Sequence[ExtractedFrames], total: int) -> Iterator[tuple[int, bytes]]:
    """Every chunk of a trajectory file of `total` frames with its packed bytes, ascending.

    Chunks hold 16 frames, or `total` frames where that is less. Raises WorldlineError when frames are absent or there
    twice, and when extracted frames read back differently.
    """
    records = np.concatenate([found.records for found in extracted])
    owners = np.repeat(np.arange(len(extracted), dtype=np.int32), [len(found.records) for found in extracted])
    order = np.lexsort((owners, records["chunk"]))
    records, owners = records[order], owners[order]
    chunks, firsts = np.unique(records["chunk"], return_index=True)
    wanted = np.arange(-(-total // CHUNK))
    if not np.array_equal(chunks, wanted):
        raise WorldlineError(f"{len(np.setdiff1d(wanted, chunks))} chunks of drawn frames are absent: fetch again")
    with ExitStack() as stack:
        files = [stack.enter_context(found.open()) for found in extracted]
        for chunk, first, stop in zip(chunks.tolist(), firsts, np.append(firsts[1:], len(records)), strict=True):
            parts = [
                (mask, extracted[owner].read(files[owner], *where))
                for owner, (_, mask, *where) in zip(owners[first:stop], records[first:stop].tolist(), strict=True)
            ]
            length = min(CHUNK, total - chunk * CHUNK)
            if total >= CHUNK and len(parts) == 1 and parts[0][0] == (1 << length) - 1:
                yield chunk, parts[0][1]
            else:
                yield chunk, _merged(chunk, parts, length, min(CHUNK, total))


def _merged(chunk: int, parts: Sequence[tuple[int, bytes]], length: int, size: int) -> bytes:
    """One chunk of `size` frames, of which `length` exist, put together from the frames that several files have."""
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


def _write_index(found: ExtractedFrames) -> None:
    """Write the index last and by rename, after the disk has the chunks."""
    sync(found.path.with_suffix(".chunks"))
    aside = found.path.with_name(f".{_index(found.path).name}")
    np.savez(aside, records=found.records, edges=found.edges, inflated=found.inflated)
    sync(aside)
    aside.replace(_index(found.path))
    sync(found.path.parent)
