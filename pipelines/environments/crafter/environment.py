"""Copies of Crafter, played in turn, in the package `crafter`: `worldline learn EXPERIMENT` of a recipe for it.

The package is taken as it is (1.8.3 runs on today's NumPy) but for two things. It picks a creature to remove from a
set, whose order is that of addresses in memory: equal seeds play apart as soon as a creature is removed. Here the order
is that in which creatures came into the world. And it asks a noise function for 40,000 single numbers to draw a world,
most of the time that an episode takes: here that function reads its tables from lists in place of arrays, which gives
the same numbers five times as fast. Where numba is installed it compiles the function, which is faster still, and it is
left alone. Tests hold both against the package: other seeds' worlds, and other processes' frames.
Letters: N environments.
"""

from collections.abc import Collection, Sequence
from importlib.metadata import version
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.crafter.game import ACHIEVEMENTS, ACTIONS, CrafterRules
from pipelines.environments.in_turn import InTurn
from pipelines.environments.in_turn import options as options
from pipelines.environments.registry import Step
from pipelines.errors import UsageError

try:
    import crafter
    import opensimplex
    from crafter import worldgen
    from opensimplex import internals
except ModuleNotFoundError as error:
    raise UsageError(
        f"Crafter is played in its package, and {error.name} is not installed: pip install 'worldline[crafter]'"
    ) from error

SCREEN = 288  # pixels of a screen for people, in both directions: 32 a field


class _ListedNoise(opensimplex.OpenSimplex):
    """The noise of a seed with its tables as lists: one number is looked up in them faster than in an array."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        for name in ("_perm", "_perm_grad_index3"):
            setattr(self, name, getattr(self, name).tolist())


class _Noises:
    """What the package's world generation calls `opensimplex`."""

    OpenSimplex = _ListedNoise


if isinstance(internals._noise3, FunctionType):  # not compiled
    internals.GRADIENTS3 = list(map(int, internals.GRADIENTS3))
    worldgen.opensimplex = _Noises


class _Game(crafter.Env):
    """The package's environment, begun anew by a seed."""

    def begin(self, seed: int) -> NDArray[np.uint8]:
        """First frame of the seed's first episode; `reset` goes on to its next ones."""
        self._seed, self._episode = seed, 0
        return self.reset()

    def screen(self, size: int) -> NDArray[np.uint8]:
        """What is seen now, (size, size, 3). Nights are drawn with noise: what the game draws next stays as it was."""
        drawn = self._world.random.get_state()
        picture: NDArray[np.uint8] = self.render((size, size))
        self._world.random.set_state(drawn)
        return picture

    def _balance_object(self, chunk: Any, objs: Collection[Any], *how: Any) -> None:
        """As the package's, which draws a creature by its place in `objs`, with those in order."""
        super()._balance_object(chunk, sorted(objs, key=self._number), *how)

    def _number(self, creature: Any) -> int:
        return int(self._world._obj_map[tuple(creature.pos)])


def make(game: str, seeds: Sequence[int], rules: CrafterRules, threads: int = 2) -> "CrafterGame":
    """One environment for each of `seeds`; `threads` changes nothing. Raises ValueError for no seed."""
    return CrafterGame(game, seeds, rules)


def watched(game: str, seeds: Sequence[int], rules: CrafterRules) -> "CrafterGame":
    """See `registry.watched`: every environment of Crafter shows its screens."""
    return make(game, seeds, rules)


def roots(game: str, rules: CrafterRules) -> dict[str, Any]:
    """What is played, for a manifest: game, packages, and the rules in numbers."""
    return {
        "game": game,
        "protocol": rules.name,
        "emulator": f"crafter {version('crafter')} with opensimplex {version('opensimplex')}",
        "budget": rules.budget,
        "max_steps": rules.max_steps,
        "frame": list(rules.frame),
    }


class CrafterGame(InTurn[_Game, CrafterRules]):
    """One environment for each of `seeds`, played in turn. See `registry.Environment`."""

    def __init__(self, game: str, seeds: Sequence[int], rules: CrafterRules) -> None:
        super().__init__(game, seeds, rules)
        size, length = rules.frame[:2], rules.max_steps
        self._copies = [_Game(size=size, length=length, seed=seed) for seed in self.seeds]

    def step(self, actions_N: NDArray[Any]) -> Step:
        """Play one of the 17 actions in each environment. Raises ValueError for a number that is none of them."""
        if strangers := [action for action in np.asarray(actions_N).tolist() if action not in range(len(ACTIONS))]:
            raise ValueError(f"{strangers[0]} is no action of {self.game}: its {len(ACTIONS)} are numbered from 0")
        rewards = np.zeros(len(self.seeds), np.float32)
        terminated, truncated = np.zeros((2, len(self.seeds)), np.bool_)
        achievements = np.zeros((len(self.seeds), len(ACHIEVEMENTS)), np.int64)
        for row in sorted(self._begun):
            game = self._copies[row]
            frame, rewards[row], ended, info = game.step(int(actions_N[row]))
            terminated[row] = info["discount"] == 0
            truncated[row] = ended and not terminated[row]
            achievements[row] = [info["achievements"][name] for name in ACHIEVEMENTS]
            self._frames[row] = game.reset() if ended else frame
        return Step(self._frames.copy(), rewards, terminated, truncated, achievements=achievements)

    def screens(self) -> NDArray[np.uint8]:
        """See `registry.Watched`: (N, 288, 288, 3). An episode that ended shows the next one's screen."""
        return np.stack([game.screen(SCREEN) for game in self._copies])

    def close(self) -> None:
        """Nothing is held open."""
