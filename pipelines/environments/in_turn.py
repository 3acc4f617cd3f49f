"""What kinds of environments share that play copies of a game in turn, a row each, and have no ROM.

Such a kind's class is an `InTurn` that says how all copies play one step; each copy begins by `begin(seed)`.
Letters: N environments, H and W pixels.
"""

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.environments import registry
from pipelines.environments.registry import Rules
from pipelines.errors import UsageError


class Copy(Protocol):
    """One copy of a game."""

    def begin(self, seed: int) -> NDArray[np.uint8]:
        """First frame (H, W, 3) of the seed's first episode."""


OneCopy = TypeVar("OneCopy", bound=Copy)
ItsRules = TypeVar("ItsRules", bound=Rules)


class InTurn(Generic[OneCopy, ItsRules]):
    """One environment for each of `seeds`. See `registry.Environment`. Raises ValueError for no seed."""

    _copies: list[OneCopy]

    def __init__(self, game: str, seeds: Sequence[int], rules: ItsRules) -> None:
        if not seeds:
            raise ValueError(f"0 environments of {game} were asked for: at least 1 is needed")
        self.game, self.seeds, self.rules = game, tuple(seeds), rules
        self.spaces = registry.spaces(game, rules)
        self._begun: set[int] = set()  # rows
        self._frames = np.zeros((len(self.seeds), *self.spaces.frame_shape), np.uint8)

    def reset(self) -> NDArray[np.uint8]:
        """First frames (N, H, W, 3) of fresh episodes; seeds anew, so a reset repeats the run."""
        return self.restart(range(len(self.seeds)), self.seeds)

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin a fresh episode of its own seed in each of `rows`; frames of all, the other rows' unchanged."""
        for row, seed in zip(rows, seeds, strict=True):
            self._frames[row] = self._copies[row].begin(int(seed))
            self._begun.add(row)
        return self._frames.copy()

    def roots(self) -> dict[str, Any]:
        """See `registry.roots`."""
        return registry.roots(self.game, self.rules)


def options(game: str, rom_dir: str = "", rom_md5: str = "") -> dict[str, Any]:
    """Nothing. Raises UsageError where a ROM is named."""
    if rom_dir or rom_md5:
        raise UsageError(f"{game} has no ROM, and {rom_dir or rom_md5} names one: leave rom_dir and rom_md5 empty")
    return {}
