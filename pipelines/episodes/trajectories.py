"""Whole episodes of one game: what every file of them answers, whatever its layout, and ours, in one HDF5 file.

The segment loader knows nothing but a `TrajectoryReader`. `Trajectories` reads ours, `JowaTrajectories` the original's
groups, `ZarrTrajectories` a zarr store anywhere; `BestEpisodes` is the few best episodes of one of these, a small
expert set for fine-tuning.

Our file holds flat arrays over N transitions and where each of E episodes starts: observations (N,H,W) grey or
(N,H,W,3) RGB, uint8 in chunks of 16 frames, zstd-3 (gzip-4 without hdf5plugin); actions (N,) uint8, the game's own ids,
or (N,A) float32 where an action is A numbers;
rewards (N,) float32, clipped; terminals, truncations (N,) uint8; episode_starts (E+1,) int64; source_rows (N,3) int32 =
agent, log file n, row in that file. Attributes: game, actions (names, in the ids' order). DQN-Replay's frames are 84x84
grey; the file says what its own are. Flat arrays with a start table read faster than one group per episode. Chunks are
packed here and not in HDF5's own filter, because this releases the interpreter lock, so that several files are packed
at once.
"""

import hashlib
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from pipelines.environments.actions import stored_action
from pipelines.environments.registry import GAMES, check_game
from pipelines.errors import UsageError, WorldlineError, may_pass, not_now

try:
    import hdf5plugin
    from numcodecs.zstd import Zstd
except ImportError:
    COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 4}
    _zstd = None
else:
    COMPRESSION = dict(hdf5plugin.Zstd(clevel=3))
    _zstd = Zstd(level=3)

CHUNK = 16  # frames
CACHE = 8 << 20  # bytes of chunk cache per array while writing: a chunk that several writes share is packed once
FILE_NAME = "trajectories.h5"
OF_VIDEOS = "videos"  # what a file of videos names as its game: nobody acted, or nobody knows how
FLAT = {"actions": np.uint8, "rewards": np.float32, "terminals": np.uint8, "truncations": np.uint8}


class Streamed(Protocol):
    """A file that lies elsewhere, as an artefact's `source` gives it."""

    def open(self) -> io.RawIOBase:
        """The file, read only; reads may seek."""


class TrajectoryReader(Protocol):
    """The small arrays are in memory, frames are read on demand. May be pickled and used after a fork.

    The last step of an episode is terminal or truncated; in what an agent played it may be neither, where the episode
    was under way at the end.
    """

    game: str
    frame_shape: tuple[int, ...]  # (H, W) grey, (H, W, 3) RGB
    actions: NDArray[Any]  # (N,) uint8, the game's own ids, or (N, A) float32
    rewards: NDArray[np.float32]  # (N,) clipped
    terminals: NDArray[np.uint8]  # (N,) true game over only
    truncations: NDArray[np.uint8]  # (N,) 1 where the time limit ended the episode
    episode_starts: NDArray[np.int64]  # (E+1,), N at its end

    def __len__(self) -> int:
        """N."""

    @property
    def num_episodes(self) -> int:
        """E."""

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, H, W) or (stop-start, H, W, 3) uint8: frames start .. stop-1."""

    def close(self) -> None:
        """Let go of files; the next read opens them again."""


def require_sound(reader: TrajectoryReader, where: str) -> None:
    """Refuse contents that no writer makes. Raises WorldlineError naming the file, the rule and the repair."""
    repair = "the file was altered: export it again"
    try:
        check_game(reader.game)
    except UsageError as error:
        raise WorldlineError(
            f"{where} names '{str(reader.game)[:40]}', which is none of the {len(GAMES)} games: {repair}"
        ) from error
    starts = reader.episode_starts
    if starts.ndim != 1 or len(starts) < 2 or starts[0] != 0 or (np.diff(starts) < 1).any():
        raise WorldlineError(f"{where}: its episodes do not follow each other from row 0 on: {repair}")
    for name in FLAT:
        if getattr(reader, name).shape[:1] != (starts[-1],):
            raise WorldlineError(
                f"{where}: {name} has {getattr(reader, name).shape} values for {starts[-1]} rows: {repair}"
            )
    if (found := reader.actions.shape[1:]) != (wanted := stored_action(reader.game).shape):
        raise WorldlineError(f"{where}: an action is {found}, {reader.game}'s are {wanted}: {repair}")
    if not np.isfinite(reader.actions).all():
        raise WorldlineError(f"{where}: an action is no finite number: {repair}")
    for name in ("terminals", "truncations"):
        if getattr(reader, name).max() > 1:
            raise WorldlineError(
                f"{where}: {name} holds {getattr(reader, name).max()}, only 0 and 1 are meant: {repair}"
            )
    if not np.isfinite(reader.rewards).all():
        raise WorldlineError(f"{where}: a reward is no finite number: {repair}")


def narrowed(values: NDArray[Any], name: str, dtype: Any, where: str) -> NDArray[Any]:
    """`values` as `dtype`, refused when any value would change: 256 must not become action 0. Raises WorldlineError."""
    if values.dtype.kind in "buif":
        with np.errstate(invalid="ignore", over="ignore"):
            found = values.astype(dtype)
        if np.array_equal(found, values):
            return found
    raise WorldlineError(f"{where}: {name} ({values.dtype}) do not fit {np.dtype(dtype)}: the file was altered")


def frame_shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one frame, (H, W) or (H, W, 3), of an array of N frames. Raises ValueError for any other array."""
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)) or 0 in shape[1:]:
        raise ValueError(f"frames are {shape}, they must be (N, H, W) grey or (N, H, W, 3) RGB")
    return tuple(shape[1:])


def pack(frames: NDArray[np.uint8]) -> bytes:
    """One whole chunk, C-contiguous, as the filter of `COMPRESSION` reads it."""
    return zlib.compress(frames.data, 4) if _zstd is None else _zstd.encode(frames)


def unpack(packed: bytes, frame_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The chunk that was packed, (n, *frame_shape) uint8."""
    data = zlib.decompress(packed) if _zstd is None else _zstd.decode(packed)
    return np.frombuffer(data, np.uint8).reshape(-1, *frame_shape)


class FlatEpisodes:
    """Mixin of the trajectory readers. N transitions, episode after episode; E episodes."""

    actions: NDArray[Any]  # (N,) or (N, A)
    episode_starts: NDArray[np.int64]  # (E+1,), N at its end

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def num_episodes(self) -> int:
        """E."""
        return len(self.episode_starts) - 1


class TrajectoryWriter:
    """Creates the file with every slot reserved; frames and rows may then arrive in any order.

    `actions` are the names of the game's own ids, `lengths` the episodes' transitions, `frame_shape` is (H, W) or
    (H, W, 3); DQN-Replay's unless given. `numbers` of an action, where it is no id. Raises WorldlineError where there
    is no transition.
    """

    def __init__(
        self,
        path: Path,
        game: str,
        actions: Sequence[str],
        lengths: Sequence[int],
        frame_shape: tuple[int, ...] = (84, 84),
        numbers: int = 0,
    ) -> None:
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        total = int(starts[-1])
        if total == 0:
            raise WorldlineError(f"No transition of {game} to write: draw at least one episode")
        self._file = h5py.File(path, "w", rdcc_nbytes=CACHE, rdcc_nslots=10_007)
        self._file.attrs["game"] = game
        self._file.attrs["actions"] = list(actions)
        shape = (total, *frame_shape_of((total, *frame_shape)))
        chunks = (min(CHUNK, total), *frame_shape)
        frames = self._file.create_dataset("observations", shape, np.uint8, chunks=chunks, **COMPRESSION)
        self._chunks, self._chunk, self._corner = frames.id, chunks[0], (0,) * len(frame_shape)
        self._packed: dict[int, bytes] = {}  # by chunk, the hash of what was written
        flat = (min(1 << 16, total),)
        for name, dtype in FLAT.items():
            if name == "actions" and numbers:
                row = (numbers,)
                self._file.create_dataset(name, (total, *row), np.float32, chunks=(*flat, *row), **COMPRESSION)
                continue
            self._file.create_dataset(name, (total,), dtype, chunks=flat, **COMPRESSION)
        self._file.create_dataset("source_rows", (total, 3), np.int32, chunks=(*flat, 3), **COMPRESSION)
        self._file["episode_starts"] = starts

    def write(self, name: str, start: int, values: NDArray) -> None:
        """Fill slots start .. start+len(values)-1 of one array. Raises ValueError for slots that are not there."""
        data = self._file[name]
        if start < 0 or start + len(values) > len(data):
            raise ValueError(f"{name} has {len(data)} slots, {start} to {start + len(values)} do not fit")
        data[start : start + len(values)] = values

    def write_chunk(self, chunk: int, packed: bytes) -> None:
        """Fill one chunk of the observations with what `pack` made of its frames."""
        self._packed[chunk] = hashlib.sha256(packed).digest()
        self._chunks.write_direct_chunk((chunk * self._chunk, *self._corner), packed)

    def frames_sha256(self) -> str:
        """A hash of all frames as they lie in the file: equal for equal frames, compressed in the same way.

        Raises ValueError unless `write_chunk` wrote every chunk.
        """
        if len(self._packed) < -(-self._chunks.shape[0] // self._chunk):
            raise ValueError(f"{len(self._packed)} chunks of frames are known: write all by write_chunk")
        chunks = [str(self._chunks.shape), *(self._packed[chunk].hex() for chunk in sorted(self._packed))]
        return hashlib.sha256(" ".join(chunks).encode()).hexdigest()

    def __enter__(self) -> "TrajectoryWriter":
        return self

    def close(self) -> None:
        """Have the file complete; nothing can be written after that."""
        self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Trajectories(FlatEpisodes):
    """A `TrajectoryReader` of such a file. Raises WorldlineError for a file that is damaged or of another form.

    The small arrays are read once; the frames' handle opens late, again in each process. `frame_shape` is (H, W) or
    (H, W, 3).
    """

    def __init__(self, path: Path | Streamed) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._datasets: dict[str, h5py.Dataset] = {}  # looking one up by name costs as much as reading a segment
        self._owner = 0
        try:
            with self._opened() as file:
                self.game: str = str(file.attrs["game"])
                self.action_names: tuple[str, ...] = tuple(str(name) for name in file.attrs["actions"])
                self.actions: NDArray[Any] = file["actions"][:]
                self.rewards: NDArray[np.float32] = file["rewards"][:]
                self.terminals: NDArray[np.uint8] = file["terminals"][:]
                self.truncations: NDArray[np.uint8] = file["truncations"][:]
                self.episode_starts: NDArray[np.int64] = file["episode_starts"][:]
                observations = file["observations"]
                frames, self.frame_shape = observations.shape[0], frame_shape_of(observations.shape)
        except (OSError, KeyError, ValueError) as error:
            if may_pass(error):
                raise not_now(path, error) from error
            raise WorldlineError(
                f"{path} is no readable trajectory file ({error}): delete and make it again"
            ) from error
        if frames != len(self) or self.episode_starts[-1] != len(self):
            raise WorldlineError(f"{path} holds arrays of different lengths: delete and make it again")

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Frames start .. stop-1 of the flat array, (stop-start, H, W) or (stop-start, H, W, 3) uint8."""
        return self._dataset("observations")[start:stop]

    def source_rows(self, start: int, stop: int) -> NDArray[np.int32]:
        """(stop-start, 3) int32: agent, log file n and row that each transition came from."""
        return self._dataset("source_rows")[start:stop]

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file, self._datasets = None, {}

    def _dataset(self, name: str) -> h5py.Dataset:
        if self._file is None or self._owner != os.getpid():  # HDF5 handles do not survive a fork
            self._file, self._owner = self._opened(), os.getpid()
            self._datasets = {}
        if name not in self._datasets:
            self._datasets[name] = self._file[name]
        return self._datasets[name]

    def _opened(self) -> h5py.File:
        return h5py.File(self.path if isinstance(self.path, Path) else self.path.open(), "r")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_datasets": {}}


def best_episodes(reader: TrajectoryReader, count: int, among: int) -> list[int]:
    """The `count` of the first `among` episodes with the highest sum of (clipped) rewards, in their order.

    Of equal ones the earlier wins. Raises UsageError where there are fewer.
    """
    if count > among:
        raise UsageError(
            f"{count} expert episodes of {reader.game} are wanted, its trajectories hold {among} to learn from: "
            "lower --episodes or draw more (downsample.transitions)"
        )
    returns = np.add.reduceat(reader.rewards.astype(np.float64), reader.episode_starts[:-1])[:among]
    return sorted(np.argsort(-returns, kind="stable")[:count].tolist())


class BestEpisodes:
    """A TrajectoryReader of some episodes of another, numbered anew from 0; frames stay where they are."""

    def __init__(self, reader: TrajectoryReader, episodes: Sequence[int]) -> None:
        starts = reader.episode_starts
        self.game, self.frame_shape, self._reader = reader.game, reader.frame_shape, reader
        self._rows_N = np.concatenate([np.arange(starts[episode], starts[episode + 1]) for episode in episodes])
        self.actions: NDArray[Any] = reader.actions[self._rows_N]
        self.rewards: NDArray[np.float32] = reader.rewards[self._rows_N]
        self.terminals: NDArray[np.uint8] = reader.terminals[self._rows_N]
        self.truncations: NDArray[np.uint8] = reader.truncations[self._rows_N]
        lengths = [starts[episode + 1] - starts[episode] for episode in episodes]
        self.episode_starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._rows_N)

    @property
    def num_episodes(self) -> int:
        """E."""
        return len(self.episode_starts) - 1

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, H, W) or (stop-start, H, W, 3) uint8: frames start .. stop-1."""
        rows = self._rows_N[start:stop]
        pieces = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        return np.concatenate([self._reader.frames(int(piece[0]), int(piece[-1]) + 1) for piece in pieces])

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        self._reader.close()
