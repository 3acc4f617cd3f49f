"""What every kind of environment answers, whatever the game: several copies of one game that are played at once.

`registry.make` builds one. `rollout` plays whole episodes in it and knows nothing else of a game.
Letters: N environments, H and W pixels; an RGB frame has a last axis of 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.spaces import Spaces


class Rules(Protocol):
    """The rules of play, known by their name: a score means nothing without them."""

    @property
    def name(self) -> str:
        """By which keys and scores name them."""

    @property
    def frame(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames that are shown."""

    @property
    def max_steps(self) -> int:
        """Agent steps after which an episode is truncated."""


@dataclass(frozen=True)
class Step:
    """What one step of all environments gave. Where an episode ended, `frames` holds the next episode's first frame."""

    frames: NDArray[np.uint8]  # (N, H, W) or (N, H, W, 3)
    rewards: NDArray[np.float32]  # (N,) the game's own points
    terminated: NDArray[np.bool_]  # (N,) the game was over
    truncated: NDArray[np.bool_]  # (N,) the rules' limit cut it

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(N,) True where an episode ended, for either reason; game over counts when both fell on one step."""
        return self.terminated | self.truncated


class Environment(Protocol):
    """N copies of `game` under `rules`, each with a seed of its own. An environment of a seed always plays alike."""

    game: str
    seeds: tuple[int, ...]
    spaces: Spaces

    def reset(self) -> NDArray[np.uint8]:
        """First frames (N, H, W) or (N, H, W, 3) of fresh episodes; every environment is seeded anew."""

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin a fresh episode of its own seed in each of `rows`; frames of all, the other rows' unchanged.

        What follows is what a new environment of that seed would play.
        """

    def step(self, actions_N: NDArray[Any]) -> Step:
        """Play one action in each environment: (N,) integers, or (N, size) floats where `spaces.actions` is a Box.

        Raises ValueError for an action that the game does not have.
        """

    def roots(self) -> dict[str, Any]:
        """What is played, for a manifest: the game, the emulator and the rules in numbers."""

    def close(self) -> None:
        """Let go of files. Nothing can be played afterwards."""


def emulator_seeds(seed: int, count: int) -> tuple[int, ...]:
    """`count` seeds of environments drawn from one; more of them begin with the same ones."""
    return tuple(int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(count))
