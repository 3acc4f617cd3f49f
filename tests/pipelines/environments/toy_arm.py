"""A toy environment whose actions are two numbers: they move a dot, and a reward says how near it is to its goal.

`known(monkeypatch)` makes it a game of the house, as if its kind stood in the registry. A frame is 16x16, or 64x64
under the rules "arm64": the dot is red, the goal green. An episode of a seed begins at the same places whoever plays
beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.spaces import Box
from pipelines.environments import registry
from pipelines.environments.registry import Kind, Rules, Step

GAME, SIDE, STEPS, SIZE = "ToyArm", 16, 12, 2
REACH = 0.15  # of its range, that a dot moves at most in a step


@dataclass(frozen=True)
class ArmRules:
    """An episode takes `max_steps` steps; nothing else ends it."""

    name: str = "arm"
    frame: tuple[int, int, int] = (SIDE, SIDE, 3)
    max_steps: int = STEPS


class Arms:
    """See `registry.Environment`."""

    def __init__(self, seeds: Sequence[int], rules: ArmRules) -> None:
        self.game, self.seeds, self.rules = GAME, tuple(seeds), rules
        self.spaces = registry.spaces(GAME, rules)
        self.dots, self.goals = np.zeros((len(seeds), 2)), np.zeros((len(seeds), 2))
        self.at, self.near = np.zeros(len(seeds), int), np.zeros((len(seeds), 1), np.int64)
        self.draws = [np.random.default_rng(seed) for seed in seeds]

    def reset(self) -> NDArray[np.uint8]:
        return self.restart(range(len(self.seeds)), self.seeds)

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        for row, seed in zip(rows, seeds, strict=True):
            self.draws[row] = np.random.default_rng(seed)
            self._begin(row)
        return self._frames()

    def step(self, actions_N: NDArray[Any]) -> Step:
        if actions_N.shape != self.dots.shape or not (np.abs(actions_N) <= 1).all():
            raise ValueError(f"Actions {actions_N.shape}: give ({len(self.dots)}, 2) numbers from -1 to 1")
        self.dots = np.clip(self.dots + REACH * actions_N, 0, 1)
        distances = np.linalg.norm(self.dots - self.goals, axis=1)
        self.near[:, 0] += distances < REACH
        self.at += 1
        cut, near = self.at == self.rules.max_steps, self.near.copy()
        for row in np.flatnonzero(cut):
            self._begin(row)
        over = np.zeros(len(cut), bool)
        return Step(self._frames(), (1 - distances).astype(np.float32), over, cut, achievements=near)

    def screens(self) -> NDArray[np.uint8]:
        return self._frames()

    def roots(self) -> dict[str, Any]:
        return roots(GAME, self.rules)

    def close(self) -> None:
        pass

    def _begin(self, row: int) -> None:
        self.dots[row], self.goals[row] = self.draws[row].random((2, 2))
        self.at[row], self.near[row] = 0, 0

    def _frames(self) -> NDArray[np.uint8]:
        side = self.rules.frame[0]
        dot = 3 * side // SIDE
        frames = np.zeros((len(self.at), side, side, 3), np.uint8)
        for channel, places in enumerate((self.dots, self.goals)):
            for row, (x, y) in enumerate((places * (side - dot)).round().astype(int)):
                frames[row, y : y + dot, x : x + dot, channel] = 255
        return frames


def make(game: str, seeds: Sequence[int], rules: Rules, threads: int = 2) -> Arms:
    assert isinstance(rules, ArmRules)
    return Arms(seeds, rules)


watched = make


def roots(game: str, rules: Rules) -> dict[str, Any]:
    return {"game": game, "protocol": rules.name, "emulator": "arm 1"}


def options(game: str, rom_dir: str = "", rom_md5: str = "") -> dict[str, Any]:
    return {}


RULES = {"arm": ArmRules(), "arm64": ArmRules("arm64", (64, 64, 3))}
KIND = Kind(__name__, (GAME,), lambda game: Box(SIZE), RULES, achievements=("success",))


def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy is a game of the house."""
    monkeypatch.setattr(registry, "KINDS", (*registry.KINDS, KIND))
    monkeypatch.setattr(registry, "GAMES", (*registry.GAMES, GAME))
    monkeypatch.setattr(registry, "_PROTOCOLS", registry._PROTOCOLS | dict(KIND.protocols))
    monkeypatch.setattr(registry, "_PLAIN", registry._PLAIN | {GAME.lower(): GAME})
