"""Observation noise around any environment: what is seen is rounded to bytes, and the game below knows nothing of it.

Ask for it by a protocol's name: `worldline evaluate EXPERIMENT --protocol iris+noise0.1`. Rewards and ends are those of
the game without noise. Each environment draws from a stream of its own that its seed begins, apart from the game's: an
environment of a seed always shows the same frames.
Letters: N environments; frames are (N, H, W) or (N, H, W, 3).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.spaces import noisy_frames
from pipelines.environments.registry import Environment, NoisyRules, Step

STREAM = 0x6E6F697365  # beside a seed: the game below draws from the seed alone


class NoisyGame:
    """An environment whose frames carry noise. See `Environment`."""

    def __init__(self, game: Environment, rules: NoisyRules) -> None:
        self.game, self.seeds, self.spaces, self.rules = game.game, game.seeds, game.spaces, rules
        self._below = game
        self._draws: dict[int, np.random.Generator] = {}
        self._frames = np.empty((len(self.seeds), *self.spaces.frame_shape), np.uint8)

    def reset(self) -> NDArray[np.uint8]:
        """First frames of fresh episodes; seeds anew, so a reset repeats the run."""
        return self.restart(range(len(self.seeds)), self.seeds)

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin a fresh episode of its own seed in each of `rows`; frames of all, the other rows' unchanged."""
        for row, seed in zip(rows, seeds, strict=True):
            self._draws[row] = np.random.default_rng([seed, STREAM])
        return self._seen(self._below.restart(rows, seeds), rows)

    def step(self, actions_N: NDArray[Any]) -> Step:
        """Play one action in each environment. Raises ValueError for an action that the game does not have."""
        step = self._below.step(actions_N)
        return replace(step, frames=self._seen(step.frames, sorted(self._draws)))

    def screens(self) -> NDArray[np.uint8]:
        """Those of the game, without noise, where it can be watched (`registry.watched`)."""
        found: NDArray[np.uint8] = self._below.screens()  # type: ignore[attr-defined]
        return found

    def roots(self) -> dict[str, Any]:
        """Those of the game, under the name of these rules, with the noise."""
        return self._below.roots() | {"protocol": self.rules.name, "noise": self.rules.std}

    def close(self) -> None:
        """Close the game below."""
        self._below.close()

    def _seen(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.uint8]:
        """All frames, those of `rows` anew."""
        for row in rows:
            normal = self._draws[row].standard_normal(frames[row].shape)
            self._frames[row] = np.rint(noisy_frames(frames[row], normal, self.rules.std))
        return self._frames.copy()
