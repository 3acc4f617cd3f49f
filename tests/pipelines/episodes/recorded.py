"""Real games recorded as others do, with gymnasium and Minari's DataCollector, and what play here shows of the same."""

import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.environments.atari.games import ACTIONS, PROTOCOLS
from pipelines.environments.registry import make
from pipelines.episodes.trajectories import TrajectoryReader

RULES = replace(PROTOCOLS["sticky"], sticky=0.0)


def tree_map(function: Any, tree: Any, *rest: Any) -> Any:
    """What the collector needs of JAX, which is too large to be installed for it."""
    if isinstance(tree, dict):
        return {name: tree_map(function, tree[name], *(other[name] for other in rest)) for name in tree}
    return function(tree, *rest)


@contextmanager
def collector_works(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tree_util = types.ModuleType("jax.tree_util")
        tree_util.tree_map = tree_map  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "jax", types.ModuleType("jax"))
        patch.setitem(sys.modules, "jax.tree_util", tree_util)
        patch.setattr(sys.modules["jax"], "tree_util", tree_util, raising=False)
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        yield


@dataclass(frozen=True)
class Played:
    """One episode as this project plays it: S agent steps."""

    frames: NDArray[np.uint8]  # (S, 84, 84)
    actions: list[int]  # of the 18
    points: list[float]


def play_here(game: str, seed: int, actions: Sequence[int]) -> Played:
    environment = make(game, [seed], RULES, threads=1)
    frames, points = [environment.reset()[0]], []
    for action in actions:
        step = environment.step(np.array([action]))
        frames.append(step.frames[0])
        points.append(float(step.rewards[0]))
    return Played(np.stack(frames[: len(actions)]), list(actions), points)


def environment(game: str, **kwargs: Any) -> gymnasium.Env:
    gymnasium.register_envs(ale_py)
    return gymnasium.make(f"ALE/{game}-v5", **{"repeat_action_probability": 0.0, **kwargs})


def record(
    folder: Path,
    made: gymnasium.Env,
    episodes: Sequence[Sequence[int]],
    held: int = 4,
    data_format: str = "hdf5",
    jpeg: bool = False,
) -> tuple[Path, list[int]]:
    """A data set of these episodes, given as ids of the 18; where it lies, and each episode's emulator seed."""
    import minari

    with collector_works(folder):
        env = minari.DataCollector(made, data_format=data_format, jpeg_encoding=jpeg)
        meanings, seeds = made.unwrapped.get_action_meanings(), []  # type: ignore[attr-defined]
        for number, actions in enumerate(episodes):
            env.reset(seed=number)
            seeds.append(made.unwrapped.ale.getInt("random_seed"))  # type: ignore[attr-defined]
            for action in actions:
                for _ in range(held):
                    env.step(meanings.index(ACTIONS[action]))
        data_set = env.create_dataset("atari/played-v3", algorithm_name="scripted")
        env.close()
    return Path(data_set.storage.data_path), seeds


def assert_equal(found: TrajectoryReader, played: Sequence[Played], own: Sequence[int]) -> None:
    """Frames, actions, clipped rewards and ends of these episodes, bit for bit. `own` are the game's own actions."""
    assert np.diff(found.episode_starts).tolist() == [len(each.actions) for each in played]
    np.testing.assert_array_equal(found.frames(0, len(found)), np.concatenate([each.frames for each in played]))
    assert [own[action] for action in found.actions] == [action for each in played for action in each.actions]
    assert found.rewards.tolist() == [float(np.sign(point)) for each in played for point in each.points]
    assert np.flatnonzero(found.truncations).tolist() == (found.episode_starts[1:] - 1).tolist()
    assert not found.terminals.any()
