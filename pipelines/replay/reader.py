"""What every file of whole episodes answers, whatever its layout; the segment loader knows nothing else of it.

`Trajectories` reads ours (HDF5), `JowaTrajectories` the original's groups, `ZarrTrajectories` a zarr store anywhere.
Letters: N transitions of a game, flat, episode after episode; E episodes; H = W = 84.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.atari.games import game_id
from pipelines.errors import UsageError, WorldlineError
from pipelines.replay.trajectories import FLAT


class TrajectoryReader(Protocol):
    """The small arrays are in memory, frames are read on demand. May be pickled and used after a fork."""

    game: str
    actions: NDArray[np.uint8]  # (N,) the game's minimal ids
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
        """(stop-start, 84, 84) uint8: frames start .. stop-1."""

    def close(self) -> None:
        """Let go of files; the next read opens them again."""


def require_sound(reader: TrajectoryReader, where: str) -> None:
    """Refuse contents that no writer makes. Raises WorldlineError naming the file, the rule and the repair."""
    repair = "the file was altered: export it again"
    try:
        game_id(reader.game)
    except UsageError as error:
        raise WorldlineError(
            f"{where} names '{str(reader.game)[:40]}', which is none of the 60 games: {repair}"
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
    """`values` as `dtype`, refused when any value would change: 256 must not become action 0."""
    if values.dtype.kind in "buif":
        with np.errstate(invalid="ignore", over="ignore"):
            found = values.astype(dtype)
        if np.array_equal(found, values):
            return found
    raise WorldlineError(f"{where}: {name} ({values.dtype}) do not fit {np.dtype(dtype)}: the file was altered")
