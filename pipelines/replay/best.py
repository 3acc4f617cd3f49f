"""The few best episodes of a game as a reader of their own: a small expert set for fine-tuning."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import UsageError
from pipelines.replay.reader import TrajectoryReader


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
        self.game, self._reader = reader.game, reader
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
        """(stop - start, 84, 84) uint8."""
        rows = self._rows_N[start:stop]
        pieces = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        return np.concatenate([self._reader.frames(int(piece[0]), int(piece[-1]) + 1) for piece in pieces])

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        self._reader.close()
