"""What is cut and made from a game's episodes for training: windows of steps, and the tokens of all frames, at rest.

Windows are arithmetic on episode starts, so nothing needs to be searched or stored. A segment covers steps `start ..
start + length - 1` of its episode; steps below 0 or from T on are padding. Right-padded segments (pre-training) start
at 0, stride, 2 stride, ... < T. Left-padded ones (imagination) end at T, T - stride, ... > 0, so their start may be
negative. Source: JOWA (arXiv 2410.00564); the original's left-padded ends begin one step earlier, so that it never
shows a terminal step there.

Tokens are one zarr array (N, K) uint16, sharded, zstd; and memory-mapped for training. 72 bytes a frame at K = 36,
before compression. Chunks of 4,096 frames, shards of 64 chunks, so that 10 M frames are 39 files. A memory map is read
a hundred times faster than zarr: training maps, unless the tokens lie in a bucket and find no room in the cache.
Letters: N frames of a game, K tokens a frame, E episodes, S segments.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.limits import LONG
from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.files import sync

if TYPE_CHECKING:
    from pipelines.batches.streamed_tokens import StreamedTokens

EPISODE, START, END, ENVIRONMENT = COLUMNS = ("Episode index", "Start index", "End index", "Environment")
FILE_NAME = "segments.parquet"
PADDINGS = ("right", "left")
TOKENS_NAME = "tokens.zarr"
TOKENS_CHUNK = 4096  # frames
TOKENS_SHARD = 64 * TOKENS_CHUNK


@dataclass(frozen=True, eq=False)
class Segmentation:
    """All segments of E episodes, computed when asked for: `segmentation[indices]` equals those rows of the table.

    `episode_starts` is (E+1,) with the total at the end; `padding` is "right" or "left". Raises ValueError otherwise.
    """

    episode_starts: NDArray[np.int64]
    length: int
    stride: int
    padding: str

    def __post_init__(self) -> None:
        if self.padding not in PADDINGS:
            raise ValueError(f"Segment padding '{self.padding}' is unknown: choose right or left")
        if not (1 <= self.length <= LONG and 1 <= self.stride <= LONG):
            raise ValueError(
                f"Segments of length {self.length}, stride {self.stride}: both must be at least 1 and at most {LONG}"
            )

    @functools.cached_property
    def _before(self) -> NDArray[np.int64]:
        """(E+1,) how many segments the episodes before each one have: ceil(T / stride) an episode."""
        counts = -(-np.diff(self.episode_starts) // self.stride)
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """(b, 3) int64 for indices (b,): episode, start, end (exclusive, at most T). By episode, then by start.

        Raises IndexError outside 0 .. len - 1.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(
                f"Segments are numbered 0 to {len(self) - 1}: {indices.min()} to {indices.max()} asked for"
            )
        episodes = np.searchsorted(self._before, indices, side="right") - 1
        rank = indices - self._before[episodes]
        steps = self.episode_starts[episodes + 1] - self.episode_starts[episodes]  # T
        if self.padding == "right":
            starts = rank * self.stride
            ends = np.minimum(starts + self.length, steps)
        else:
            ends = steps - (self._before[episodes + 1] - self._before[episodes] - 1 - rank) * self.stride
            starts = ends - self.length
        return np.stack([episodes, starts, ends], axis=1)

    @property
    def last_episode(self) -> int:
        """The last episode that has a segment. Raises IndexError when there is no segment at all."""
        return int(self[np.array([len(self) - 1])][0, 0])

    def first_episodes(self, count: int) -> "Segmentation":
        """The same without the episodes from `count` on, as training needs when it holds some out."""
        return replace(self, episode_starts=self.episode_starts[: count + 1])

    def table(self) -> NDArray[np.int64]:
        """(S, 3): all of them."""
        return self[np.arange(len(self))]


def segment_index(episode_starts: NDArray[np.int64], length: int, stride: int, padding: str) -> NDArray[np.int64]:
    """(S, 3) int64: episode, start, end of every segment; see `Segmentation`, which needs no table."""
    return Segmentation(episode_starts, length, stride, padding).table()


def last_episode(segments: NDArray[np.int64] | Segmentation) -> int:
    """The highest episode that has a segment, of a table (S, 3) or of what replaces it."""
    return segments.last_episode if isinstance(segments, Segmentation) else int(segments[:, 0].max())


def real_steps(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """(S,) how many of each segment's steps are real, none of them padding."""
    return index[:, 2] - np.maximum(index[:, 1], 0)


def to_table(index: NDArray[np.int64], game: str) -> pd.DataFrame:
    """The index with JOWA's column names."""
    table = pd.DataFrame(index.astype(np.int32), columns=list(COLUMNS[:3]))
    table[ENVIRONMENT] = pd.Categorical([game]).repeat(len(index))
    return table


def read_table(folder: Path) -> NDArray[np.int64]:
    """The index (S, 3) of a `segments` artefact's folder: episode, start, end."""
    table = pd.read_parquet(folder / FILE_NAME, columns=list(COLUMNS[:3]))
    return table.to_numpy(np.int64)


# ---- tokens ----


class TokenWriter:
    """Creates the array; `append` in order until all `frames` rows are there."""

    def __init__(self, path: Path, frames: int, tokens_per_frame: int) -> None:
        import zarr

        self._array = zarr.create_array(
            store=str(path),
            shape=(frames, tokens_per_frame),
            dtype="uint16",
            chunks=(TOKENS_CHUNK, tokens_per_frame),
            shards=(TOKENS_SHARD, tokens_per_frame),
        )
        self._frames = frames
        self._pending: list[NDArray[np.uint16]] = []
        self._written = 0

    def append(self, tokens_NK: NDArray[np.uint16]) -> None:
        """Add rows; they reach the disk a shard at a time, because a shard cannot be written in parts cheaply."""
        self._pending.append(tokens_NK)
        if sum(len(part) for part in self._pending) >= TOKENS_SHARD:
            self._flush(TOKENS_SHARD)

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


def open_tokens(
    artefacts: Sequence[Artefact], scratch: Path, preload_bytes: int = 0
) -> "list[NDArray[np.uint16] | StreamedTokens]":
    """Each game's tokens (N, K) uint16: a read-only memory map, unpacked once into `scratch`; or read in their bucket.

    The latter, which find no room in the cache, are kept in memory where all of them fit into `preload_bytes`.
    """
    found = [_open_tokens(one, scratch) for one in artefacts]
    preload = sum(one.nbytes for one in found if not isinstance(one, np.ndarray)) <= preload_bytes
    return [one.whole() if preload and not isinstance(one, np.ndarray) else one for one in found]


def _open_tokens(tokens: Artefact, scratch: Path) -> "NDArray[np.uint16] | StreamedTokens":
    path = scratch / f"tokens-{tokens.ref.key}.npy"
    if not path.exists():
        import zarr

        files = tokens.sources(TOKENS_NAME)
        if not isinstance(files, Path):
            from pipelines.batches.streamed_tokens import StreamedTokens

            return StreamedTokens(files)
        array = zarr.open_array(store=str(files), mode="r")
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        mapped = np.lib.format.open_memmap(aside, mode="w+", dtype=np.uint16, shape=array.shape)
        for start in range(0, array.shape[0], TOKENS_SHARD):
            mapped[start : start + TOKENS_SHARD] = array[start : start + TOKENS_SHARD]
        mapped.flush()
        sync(aside)  # zeros after a power cut would be tokens like any others
        aside.replace(path)
    return np.load(path, mmap_mode="r")
