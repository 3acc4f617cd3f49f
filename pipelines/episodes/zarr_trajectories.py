"""Trajectories as a sharded zarr v3 group, on a disk or behind any fsspec URL; written and read here.

The arrays are those of our HDF5: observations (N,H,W) or (N,H,W,3) uint8, zstd-3, in chunks of 16 frames and shards of
4,096; actions (N,) uint8, or (N,A) float32 where an action is A numbers; rewards, terminals, truncations (N,);
source_rows (N,3) int32; episode_starts (E+1,) int64.
Attributes: game, actions (names in the ids' order), worldline (what it was exported from).
A shard's index stands at its start, because some object stores ignore requests for the last bytes of an object.
Our HDF5 is read faster from a disk: this is for bytes that lie far away.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.storage import FsspecStore, LocalStore

from pipelines.bucket.bucket import Bucket
from pipelines.environments.actions import action_names
from pipelines.episodes.trajectories import CHUNK, FLAT, FlatEpisodes, frame_shape_of, require_sound
from pipelines.errors import WorldlineError
from pipelines.redact import one_line
from pipelines.store.profile import Profile

SHARD = 256 * CHUNK  # frames: 29 MB of 84x84 grey before compression

FLAT_CHUNK = 1 << 16  # rows of a small array

MOST_ROWS = 1 << 28  # five whole agents have 250 M

LARGEST_FRAME = 1 << 20  # bytes

ROWS: dict[str, tuple[Any, tuple[int, ...]]] = {  # dtype, shape of a row; frames have the shape that the store says
    **{name: (dtype, ()) for name, dtype in FLAT.items()},
    "source_rows": (np.int32, (3,)),
}

MOST_NUMBERS = 1 << 10  # of an action

FRAMES, STARTS = "observations", "episode_starts"


def rows_of(frame_shape: tuple[int, ...], numbers: int = 0) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """By array, dtype and shape of a row. `numbers` of an action, where it is no id."""
    own = {"actions": (np.float32, (numbers,))} if numbers else {}
    return {FRAMES: (np.uint8, frame_shape), **ROWS, **own}


class ZarrWriter:
    """An empty store in a folder for frames of `frame_shape`; fill it by slices, whole shards of frames at a time.

    `numbers` of an action, where it is no id.
    """

    def __init__(
        self,
        folder: Path,
        episode_starts: NDArray[np.int64],
        game: str,
        actions: tuple[str, ...],
        lineage: dict[str, Any],
        frame_shape: tuple[int, ...],
        numbers: int = 0,
    ) -> None:
        rows = int(episode_starts[-1])
        self._group: Any = zarr.create_group(store=LocalStore(folder), zarr_format=3)
        self._attributes = {"game": game, "actions": list(actions), "worldline": lineage}
        for name, (dtype, row) in rows_of(frame_shape, numbers).items():
            chunk, shard = (CHUNK, SHARD) if name == FRAMES else (FLAT_CHUNK, FLAT_CHUNK)
            sharding: Any = {"shape": (shard, *row), "index_location": "start"}
            self._group.create_array(
                name=name,
                shape=(rows, *row),
                dtype=dtype,
                chunks=(chunk, *row),
                shards=sharding,
                compressors=ZstdCodec(level=3, checksum=True),
            )
        self._group.create_array(name=STARTS, data=episode_starts)

    def write(self, name: str, start: int, values: NDArray[Any]) -> None:
        """Fill rows start .. start+len(values)-1 of one array."""
        self._group[name][start : start + len(values)] = values

    def close(self) -> None:
        """Write the attributes, and in them how many chunks there are: zarr reads a missing one as zeros."""
        chunks = {name: int(self._group[name].nchunks_initialized) for name in (FRAMES, *ROWS, STARTS)}
        self._group.attrs.update(self._attributes | {"chunks": chunks})


class ZarrTrajectories(FlatEpisodes):
    """A `TrajectoryReader` of a folder or URL, reached as `profile` says. Raises WorldlineError for a bad store.

    `frame_shape` is (H, W) or (H, W, 3), as the store says.
    """

    def __init__(self, url: str | Path, profile: Profile | None = None) -> None:
        self.url, self._profile = str(url), profile
        self._arrays: dict[str, Any] = {}
        self._owner = 0
        try:
            group: Any = zarr.open_group(self._store(), mode="r", zarr_format=3)
            attributes: dict[str, Any] = group.attrs.asdict()
            self.game = str(attributes["game"])
            self.action_names = tuple(str(name) for name in attributes["actions"])
            self.lineage = dict(attributes["worldline"])
            self._require_shapes(group)
            for name, chunks in attributes["chunks"].items():
                if group[name].nchunks_initialized != chunks:
                    raise WorldlineError(
                        f"{self.url}: {name} has {group[name].nchunks_initialized} chunks of {chunks}: copy it again"
                    )
            self.episode_starts: NDArray[np.int64] = group[STARTS][:].astype(np.int64)
            self.actions: NDArray[Any] = group["actions"][:]
            self.rewards: NDArray[np.float32] = group["rewards"][:]
            self.terminals: NDArray[np.uint8] = group["terminals"][:]
            self.truncations: NDArray[np.uint8] = group["truncations"][:]
        except Exception as error:
            raise self._refusal(error) from error
        require_sound(self, self.url)
        if self.action_names != action_names(self.game):
            raise WorldlineError(f"{self.url}: its actions are not those of {self.game}: the attributes were altered")

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Frames start .. stop-1, (stop-start, H, W) or (stop-start, H, W, 3) uint8.

        Raises WorldlineError for a damaged chunk.
        """
        return self._read(FRAMES, start, stop)

    def source_rows(self, start: int, stop: int) -> NDArray[np.int32]:
        """(stop-start, 3) int32: agent, log file n and row that each transition came from."""
        return self._read("source_rows", start, stop)

    def close(self) -> None:
        """Let go of the arrays; the next read opens them again."""
        self._arrays = {}

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        try:
            if self._owner != os.getpid():  # connections do not survive a fork
                self._arrays, self._owner = {}, os.getpid()
            if name not in self._arrays:
                self._arrays[name] = zarr.open_array(self._store(), path=name, mode="r", zarr_format=3)
            return np.asarray(self._arrays[name][start:stop])
        except Exception as error:
            raise self._refusal(error) from error

    def _require_shapes(self, group: Any) -> None:
        """Before anything is counted or read: what the metadata promise would otherwise be allocated."""
        rows, starts = group["actions"].shape[0], group[STARTS].shape
        if rows > MOST_ROWS or len(starts) != 1 or starts[0] > rows + 1:
            raise WorldlineError(f"{self.url}: {rows:,} rows, {starts} episode starts are impossible: export it again")
        self.frame_shape = frame_shape_of(group[FRAMES].shape)
        if math.prod(self.frame_shape) > LARGEST_FRAME:
            raise WorldlineError(
                f"{self.url}: a frame of {self.frame_shape} is larger than {LARGEST_FRAME:,} bytes: export it again"
            )
        shape = group["actions"].shape
        numbers = shape[1] if len(shape) == 2 and shape[1] <= MOST_NUMBERS else 0
        for name, (dtype, row) in rows_of(self.frame_shape, numbers).items():
            if group[name].dtype != dtype or group[name].shape != (rows, *row):
                raise WorldlineError(
                    f"{self.url}: {name} is {group[name].dtype} {group[name].shape}, it must be "
                    f"{np.dtype(dtype)} {(rows, *row)}: export it again"
                )

    def _store(self) -> LocalStore | FsspecStore:
        bucket = Bucket.of(self.url, self._profile)
        if bucket.is_local:
            return LocalStore(self.url.removeprefix("file://"), read_only=True)
        return FsspecStore.from_url(self.url, storage_options=dict(bucket.options), read_only=True)

    def _refusal(self, error: Exception) -> WorldlineError:
        """zarr, its codecs and fsspec's back ends share no base class of errors."""
        if isinstance(error, WorldlineError):
            return error
        reason = f"{type(error).__name__}: {one_line(error)[:200]}"
        return WorldlineError(f"{self.url} cannot be read as trajectories ({reason}): check the URL or export it again")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}}
