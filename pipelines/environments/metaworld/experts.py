"""The scripted experts of Meta-world's package: `act = expert("drawer-open")`, then `act(game.states()[0])`.

Each task has a rule of thumb that solves it almost always, from places of hand, object and goal that no agent here is
shown. They make videos to learn from.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.environments import registry
from pipelines.environments.metaworld import rendering
from pipelines.environments.metaworld.game import NUMBERS, STATE, TASKS
from pipelines.errors import UsageError

Act = Callable[[NDArray[np.float64]], NDArray[np.float32]]


def expert(task: str) -> Act:
    """act(state (39,) float64, as of `MetaworldGame.states`) -> action (4,) float32 within -1 and 1.

    It remembers nothing: equal states, equal actions. Raises UsageError for a game that is no task of Meta-world, and
    where the package is not installed; ValueError, when it acts, for a state of another shape.
    """
    if registry.check_game(task) not in TASKS:
        raise UsageError(f"{task} has no scripted expert: choose a task of Meta-world, such as {TASKS[0]}")
    rendering.mujoco()  # says what to draw with before the package imports it
    try:
        from metaworld.policies import ENV_POLICY_MAP
    except ModuleNotFoundError as error:
        raise rendering.missing(error.name) from error
    # Their steps are longer than an action may be, by design, and they warn of it.
    warnings.filterwarnings("ignore", r"Constant\(s\) may be too high", UserWarning)
    policy: Any = ENV_POLICY_MAP[f"{task}-v3"]
    choose = policy().get_action

    def act(state: NDArray[np.float64]) -> NDArray[np.float32]:
        if np.shape(state) != (STATE,):
            raise ValueError(f"A state of shape {np.shape(state)} is none of {task}: give ({STATE},)")
        found = np.asarray(choose(np.asarray(state, np.float64)), np.float32)
        return np.clip(found.reshape(NUMBERS), -1, 1)

    return act
