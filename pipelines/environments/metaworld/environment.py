"""Copies of one task of Meta-world, played in turn, in the package `metaworld`: `registry.make("drawer-open", ...)`.

The package's tasks are taken as they are, but for how they are set up. Places are drawn by a task's own generator, as
its `reset(seed=)` ignores the seed and draws from NumPy's global one. Tasks show their goals. Each copy has a renderer
of its own (see `rendering`). Four cameras of the scenes are defined upside down; papers have shown their pictures with
the rows turned round, upright and mirrored, and so do the frames here. And the first frame of an episode shows the
object where it is: the package moves bodies when it resets, and only the first step computes where that puts them, so
that its own first picture, as the first state, shows the places drawn before.
Letters: N environments, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.in_turn import InTurn
from pipelines.environments.in_turn import options as options
from pipelines.environments.metaworld import rendering
from pipelines.environments.metaworld.game import NUMBERS, STATE, MetaworldRules, check_camera
from pipelines.environments.registry import Step

rendering.mujoco()  # says what to draw with before the package imports it
try:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
except ModuleNotFoundError as error:
    raise rendering.missing(error.name) from error

SCREEN = 288  # pixels of a screen for people, in both directions


class _Task:
    """One copy: the package's environment, its renderer, and how often the episode had a success."""

    def __init__(self, game: str, rules: MetaworldRules) -> None:
        self._rules = rules
        self._arm: Any = ALL_V3_ENVIRONMENTS[f"{game}-v3"]()
        self._arm.max_path_length = rules.max_steps
        self._arm._partially_observable = self._arm._freeze_rand_vec = False
        self._arm._set_task_called = self._arm.seeded_rand_vec = True
        vars(self._arm).pop("sawyer_observation_space", None)  # the one of a goal that is hidden
        self._renderer = rendering.Renderer(self._arm.model, rules)
        self._screens: rendering.Renderer | None = None
        self.state, self.successes = np.zeros(STATE), 0

    def begin(self, seed: int) -> NDArray[np.uint8]:
        """First frame of the seed's first episode; `reset` goes on to its next ones."""
        self._arm.seed(seed)
        return self.reset()

    def reset(self) -> NDArray[np.uint8]:
        self.state, _ = self._arm.reset()
        self.successes = 0
        library, model, data = rendering.mujoco(), self._arm.model, self._arm.data
        for place in (library.mj_kinematics, library.mj_comPos, library.mj_camlight):  # the next step computes them too
            place(model, data)
        return self.picture(self._rules.camera)

    def step(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        """Reward, and whether the limit cut the episode."""
        self.state, reward, _, truncated, told = self._arm.step(action)
        self.successes += told["success"] > 0
        return float(reward), bool(truncated)

    def picture(self, camera: str) -> NDArray[np.uint8]:
        return self._renderer.picture(self._arm.data, camera)

    def screen(self) -> NDArray[np.uint8]:
        if self._screens is None:
            self._screens = rendering.Renderer(self._arm.model, replace(self._rules, detail=0.0), SCREEN)
        return self._screens.picture(self._arm.data, self._rules.camera)

    def close(self) -> None:
        for renderer in filter(None, (self._renderer, self._screens)):
            renderer.close()
        self._arm.close()


def make(game: str, seeds: Sequence[int], rules: MetaworldRules, threads: int = 2) -> "MetaworldGame":
    """One environment for each of `seeds`; `threads` changes nothing.

    Raises ValueError for no seed, WorldlineError where nothing is there to draw with.
    """
    return MetaworldGame(game, seeds, rules)


def watched(game: str, seeds: Sequence[int], rules: MetaworldRules) -> "MetaworldGame":
    """See `registry.watched`: every environment of Meta-world shows its screens."""
    return make(game, seeds, rules)


def roots(game: str, rules: MetaworldRules) -> dict[str, Any]:
    """What is played, for a manifest: task, packages, the rules in numbers, and what drew its frames."""
    return {
        "game": game,
        "task": f"{game}-v3",
        "protocol": rules.name,
        "emulator": f"metaworld {version('metaworld')} with mujoco {version('mujoco')}",
        "renderer": rendering.drawn_by(),
        "camera": rules.camera,
        "shadows": rules.shadows,
        "samples": rules.samples,
        "reflections": rules.reflections,
        "detail": rules.detail,
        "max_steps": rules.max_steps,
        "frame": list(rules.frame),
    }


class MetaworldGame(InTurn[_Task, MetaworldRules]):
    """One environment for each of `seeds`, played in turn. See `registry.Environment`."""

    def __init__(self, game: str, seeds: Sequence[int], rules: MetaworldRules) -> None:
        super().__init__(game, seeds, rules)
        self._copies = []
        try:
            for _ in self.seeds:
                self._copies.append(_Task(game, rules))
        except BaseException:
            self.close()
            raise

    def step(self, actions_N: NDArray[Any]) -> Step:
        """Play (N, 4) numbers from -1 to 1. Raises ValueError for other shapes and numbers."""
        actions = np.asarray(actions_N, np.float32)
        if actions.shape != (len(self.seeds), NUMBERS):
            raise ValueError(f"Actions of shape {actions.shape} are none of {self.game}: give ({len(self.seeds)}, 4)")
        if strangers := actions[~(np.abs(actions) <= 1)].tolist():  # not a number is among them
            raise ValueError(f"{strangers[0]} is in no action of {self.game}: its {NUMBERS} numbers are from -1 to 1")
        rewards = np.zeros(len(self.seeds), np.float32)
        truncated = np.zeros(len(self.seeds), np.bool_)
        successes = np.zeros((len(self.seeds), 1), np.int64)
        for row in sorted(self._begun):
            task = self._copies[row]
            rewards[row], truncated[row] = task.step(actions[row])
            successes[row] = task.successes
            self._frames[row] = task.reset() if truncated[row] else task.picture(self.rules.camera)
        return Step(self._frames.copy(), rewards, np.zeros_like(truncated), truncated, achievements=successes)

    def states(self) -> NDArray[np.float64]:
        """(N, 39) numbers from which a task's `experts.expert` acts: hand, objects and goal, in metres; zeros at first.

        The package's own, in which an episode's first state has the object where it was drawn before.
        """
        return np.stack([task.state for task in self._copies])

    def cameras(self, names: Sequence[str], row: int = 0) -> NDArray[np.uint8]:
        """(cameras, H, W, 3): what cameras of these names see now in one environment, upright.

        Raises UsageError for an unknown camera.
        """
        return np.stack([self._copies[row].picture(check_camera(name)) for name in names])

    def screens(self) -> NDArray[np.uint8]:
        """See `registry.Watched`: (N, 288, 288, 3). An episode that ended shows the next one's screen."""
        return np.stack([task.screen() for task in self._copies])

    def close(self) -> None:
        """Free the renderers; a second time does nothing."""
        for task in self._copies:
            task.close()
