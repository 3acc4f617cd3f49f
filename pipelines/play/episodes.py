"""Episodes that were played already, a step at a time: what trajectories hold.

Letters: N steps of an episode, H, W pixels.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.episodes.trajectories import TrajectoryReader
from pipelines.errors import UsageError


@dataclass(frozen=True)
class Piece:
    """Some steps of an episode: what was seen, and what was done then."""

    frames: NDArray[np.uint8]  # (N, H, W) or (N, H, W, 3)
    actions: NDArray[np.int64]  # (N,) the game's own numbers
    rewards: NDArray[np.float32]  # (N,)


class EpisodeSet(Protocol):
    """Episodes of one kind."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Steps of each."""

    def require(self, episode: int, step: int) -> None:
        """Raises UsageError for an episode or a step that there is not."""

    def read(self, episode: int, first: int, stop: int) -> Piece:
        """The steps first .. stop-1 of an episode."""

    def close(self) -> None:
        """Let go of files."""


def require_step(what: str, lengths: tuple[int, ...], episode: int, step: int) -> None:
    """Raises UsageError for an episode or a step that there is not."""
    if not 0 <= episode < len(lengths):
        there = f"give 0 to {len(lengths) - 1}" if lengths else "there is none"
        raise UsageError(f"Episode {episode} is none of the {len(lengths)} {what} ones: {there}")
    if not 0 <= step < lengths[episode]:
        raise UsageError(
            f"Step {step} is none of the {lengths[episode]} of {what} episode {episode}: give 0 to "
            f"{lengths[episode] - 1}"
        )


class RecordedEpisodes:
    """The episodes of trajectories, which hold what was seen."""

    def __init__(self, reader: TrajectoryReader, what: str = "recorded") -> None:
        self._reader, self._what = reader, what

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """See `EpisodeSet`."""
        return tuple(np.diff(self._reader.episode_starts).tolist())

    def require(self, episode: int, step: int) -> None:
        """See `EpisodeSet`."""
        require_step(self._what, self.lengths, episode, step)

    def read(self, episode: int, first: int, stop: int) -> Piece:
        """See `EpisodeSet`."""
        at, reader = int(self._reader.episode_starts[episode]), self._reader
        here = slice(at + first, at + stop)
        frames = reader.frames(here.start, here.stop)
        return Piece(frames, reader.actions[here].astype(np.int64), reader.rewards[here])

    def close(self) -> None:
        """See `EpisodeSet`."""
        self._reader.close()
