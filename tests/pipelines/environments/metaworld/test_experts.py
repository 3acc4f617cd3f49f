"""The package's scripted experts, playing as they are asked to."""

import warnings
from contextlib import closing

import numpy as np
import pytest

from pipelines.environments import registry
from pipelines.environments.metaworld.experts import expert
from pipelines.environments.metaworld.game import APV_TASKS, TASKS
from pipelines.errors import UsageError

RULES = registry.protocol("metaworld_fast")


@pytest.mark.parametrize("task", APV_TASKS)
def test_an_expert_succeeds_in_each_benchmark_task(task: str, metaworld_here: str) -> None:
    act = expert(task)
    with warnings.catch_warnings(), closing(registry.make(task, [0], RULES)) as game:
        warnings.simplefilter("error", RuntimeWarning)
        game.reset()
        task_played = game._copies[0]  # type: ignore[attr-defined]
        task_played.picture = lambda camera: np.zeros((64, 64, 3), np.uint8)  # what is drawn changes no physics
        for _ in range(200):
            action = act(game.states()[0])  # type: ignore[attr-defined]
            assert action.shape == (4,) and action.dtype == np.float32 and (np.abs(action) <= 1).all()
            step = game.step(action[None])
            assert step.achievements is not None
            if step.achievements[0, 0] == 2:
                break
        assert step.achievements[0, 0] == 2  # it counts the episode's steps with a success
        assert step.rewards[0] > 4 and not step.ended.any()


def test_every_task_has_an_expert_that_remembers_nothing(metaworld_here: str) -> None:
    state = np.linspace(-0.1, 0.9, 39)
    for task in TASKS:
        act = expert(task)
        first = act(state)
        act(state + 0.05)
        assert np.array_equal(act(state), first), task


def test_others_have_none(metaworld_here: str) -> None:
    with pytest.raises(UsageError, match="Pong has no scripted expert: choose a task of Meta-world, such as assembly"):
        expert("Pong")
    with pytest.raises(UsageError, match="Unknown game 'reech': did you mean 'reach'"):
        expert("reech")
    with pytest.raises(ValueError, match=r"A state of shape \(18,\) is none of reach: give \(39,\)"):
        expert("reach")(np.zeros(18))
