"""What every file of whole episodes answers, whatever its layout; the segment loader knows nothing else of it.

`Trajectories` reads ours (HDF5), `JowaTrajectories` the original's groups, `ZarrTrajectories` a zarr store anywhere;
`BestEpisodes` is the few best episodes of one of these, a small expert set for fine-tuning.
Letters: N transitions of a game, flat, episode after episode; E episodes; H, W pixels of a grey or RGB frame.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.registry import GAMES, check_game
from pipelines.episodes.trajectories import FLAT
from pipelines.errors import UsageError, WorldlineError


class TrajectoryReader(Protocol):
    """The small arrays are in memory, frames are read on demand. May be pickled and used after a fork."""

    game: str
    frame_shape: tuple[int, ...]  # (H, W) grey, (H, W, 3) RGB
    actions: NDArray[np.uint8]  # (N,) the game's own ids
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
        if getattr(reader, name).shape != (starts[-1],):
            raise WorldlineError(
                f"{where}: {name} has {getattr(reader, name).shape} values for {starts[-1]} rows: {repair}"
            )
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
        self.actions: NDArray[np.uint8] = reader.actions[self._rows_N]
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
