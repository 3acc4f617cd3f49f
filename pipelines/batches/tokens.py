"""A game's tokens at rest: one zarr array (N, K) uint16, sharded, zstd; and memory-mapped for training.

72 bytes a frame at K = 36, before compression. Chunks of 4,096 frames, shards of 64 chunks, so that 10 M frames
are 39 files. A memory map is read a hundred times faster than zarr: training maps.
Letters: N frames of a game, K tokens a frame.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact

NAME = "tokens.zarr"

CHUNK = 4096  # frames

SHARD = 64 * CHUNK


class TokenWriter:
    """Creates the array; `append` in order until all `frames` rows are there."""

    def __init__(self, path: Path, frames: int, tokens_per_frame: int) -> None:
        import zarr

        self._array = zarr.create_array(
            store=str(path),
            shape=(frames, tokens_per_frame),
            dtype="uint16",
            chunks=(CHUNK, tokens_per_frame),
            shards=(SHARD, tokens_per_frame),
        )
        self._frames = frames
        self._pending: list[NDArray[np.uint16]] = []
        self._written = 0

    def append(self, tokens_NK: NDArray[np.uint16]) -> None:
        """Add rows; they reach the disk a shard at a time, because a shard cannot be written in parts cheaply."""
        self._pending.append(tokens_NK)
        if sum(len(part) for part in self._pending) >= SHARD:
            self._flush(SHARD)

    def close(self) -> None:
        """Write what is left. Raises WorldlineError when rows are missing."""
        self._flush(sum(len(part) for part in self._pending))
        if self._written != self._frames:
            raise WorldlineError(f"{self._written} token rows were written, {self._frames} were announced")

    def _flush(self, rows: int) -> None:
        if rows:
            everything = np.concatenate(self._pending)
            self._array[self._written : self._written + rows] = everything[:rows]
            self._pending = [everything[rows:]]
            self._written += rows


def memory_mapped(tokens: Artefact, cache: Path) -> NDArray[np.uint16]:
    """The tokens (N, K) uint16 as a read-only memory map, unpacked once into `cache`."""
    path = cache / f"tokens-{tokens.ref.key}.npy"
    if not path.exists():
        import zarr

        array = zarr.open_array(store=str(tokens.folder / NAME), mode="r")
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        mapped = np.lib.format.open_memmap(aside, mode="w+", dtype=np.uint16, shape=array.shape)
        for start in range(0, array.shape[0], SHARD):
            mapped[start : start + SHARD] = array[start : start + SHARD]
        mapped.flush()
        aside.replace(path)
    return np.load(path, mmap_mode="r")
