"""Crafter as it is played here against its package, and against itself in other processes."""

import hashlib
import os
import subprocess
import sys
from types import ModuleType

import crafter
import numpy as np
import pytest
from crafter import worldgen
from numpy.typing import NDArray

from pipelines.environments import registry
from pipelines.environments.crafter.environment import _Noises
from pipelines.environments.crafter.game import ACHIEVEMENTS, ACTIONS, GAME, CrafterRules
from pipelines.environments.registry import Environment, protocol
from pipelines.errors import UsageError

RULES = protocol("crafter")
STEPS = 150


def drawn(seed: int, steps: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(len(ACTIONS), size=steps)


def played_digest() -> str:
    """Of frames and rewards of steps through which creatures come and go."""
    game = registry.make(GAME, [7], RULES)
    digest = hashlib.sha256(game.reset().tobytes())
    for action in drawn(1, STEPS):
        step = game.step(np.array([action]))
        digest.update(step.frames.tobytes() + step.rewards.tobytes())
    return digest.hexdigest()


def test_equal_seeds_play_alike_in_processes_of_other_hashes() -> None:
    found = set()
    for seed in ("0", "random"):
        env = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True, env=env)
        found.add(done.stdout.strip())
    assert found == {played_digest()}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> crafter.Env:
    """The package's own environment of a seed, with its own noise."""
    import opensimplex

    assert isinstance(worldgen.opensimplex, ModuleType) or worldgen.opensimplex is _Noises
    monkeypatch.setattr(worldgen, "opensimplex", opensimplex)
    monkeypatch.setattr(opensimplex.internals, "GRADIENTS3", np.array(opensimplex.internals.GRADIENTS3))
    return crafter.Env(seed=11)


def test_frames_rewards_and_ends_are_the_packages(plain: crafter.Env) -> None:
    first = plain.reset()
    world = plain._world._mat_map.copy()
    expected = [plain.step(action) for action in drawn(2, 9)]  # before the first creature may be removed
    game = registry.make(GAME, [11], RULES)
    assert np.array_equal(game.reset()[0], first)
    assert np.array_equal(game._copies[0]._world._mat_map, world)  # type: ignore[attr-defined]
    for action, (frame, reward, ended, info) in zip(drawn(2, 9), expected, strict=True):
        step = game.step(np.array([action]))
        assert np.array_equal(step.frames[0], frame) and step.rewards[0] == np.float32(reward)
        assert bool(step.ended[0]) == ended
        assert step.achievements is not None
        assert dict(zip(ACHIEVEMENTS, step.achievements[0].tolist(), strict=True)) == info["achievements"]


def walk(game: Environment, steps: int, until_end: bool = False) -> list[registry.Step]:
    found = []
    for action in drawn(3, steps):
        found.append(game.step(np.full(len(game.seeds), action)))
        if until_end and found[-1].ended.any():
            break
    return found


def test_a_batch_plays_what_each_plays_alone_and_a_restart_begins_anew() -> None:
    both, alone = (registry.make(GAME, seeds, RULES) for seeds in ([5, 6], [6]))
    first = both.reset()
    assert first.shape == (2, 64, 64, 3) and first.dtype == np.uint8
    assert np.array_equal(first[1:], alone.reset())
    for ours, theirs in zip(walk(both, 40), walk(alone, 40), strict=True):
        assert np.array_equal(ours.frames[1:], theirs.frames) and np.array_equal(ours.rewards[1:], theirs.rewards)
    before = walk(both, 1)[0].frames
    again = both.restart([1], [5])
    assert np.array_equal(again[0], before[0]) and np.array_equal(again[1], first[0])


def test_death_terminates_and_the_limit_truncates() -> None:
    game = registry.make(GAME, [4], CrafterRules("crafter", max_steps=6))
    game.reset()
    ends = [(bool(step.terminated[0]), bool(step.truncated[0])) for step in walk(game, 12)]
    assert ends == ([(False, False)] * 5 + [(False, True)]) * 2
    game = registry.make(GAME, [4], RULES)
    game.reset()
    last = walk(game, 1_000, until_end=True)[-1]
    assert last.terminated.all() and not last.truncated.any()
    assert last.achievements is not None and last.achievements.sum() > 0  # of the episode that ended
    (fresh,) = walk(game, 1)
    assert fresh.achievements is not None and fresh.achievements.sum() == 0


def test_who_looks_on_changes_nothing_by_day_or_night() -> None:
    seen, unseen = (registry.watched(GAME, [9], RULES) for _ in range(2))
    seen.reset(), unseen.reset()
    for game in (seen, unseen):
        game._copies[0]._step = 240  # type: ignore[attr-defined]  # the night draws noise
    for action in drawn(5, 20):
        screens = seen.screens()
        assert screens.shape == (1, 288, 288, 3) and screens.any()
        ours, theirs = (game.step(np.array([action])) for game in (seen, unseen))
        assert np.array_equal(ours.frames, theirs.frames)


def test_roots_tell_what_a_world_depends_on() -> None:
    found = registry.roots(GAME, protocol("crafter_1m+noise0.1"))
    assert found["emulator"].startswith("crafter 1.8") and "opensimplex 0.4" in found["emulator"]
    assert (found["game"], found["protocol"], found["budget"]) == (GAME, "crafter_1m+noise0.1", 1_000_000)


@pytest.mark.parametrize("action", [-1, 17, 255])
def test_an_action_that_is_none_is_refused(action: int) -> None:
    game = registry.make(GAME, [1], RULES)
    game.reset()
    with pytest.raises(ValueError, match=f"^{action} is no action of Crafter: its 17 are numbered from 0$"):
        game.step(np.array([action]))


def test_roms_and_no_seeds_are_refused() -> None:
    with pytest.raises(UsageError, match="Crafter has no ROM, and roms names one: leave rom_dir"):
        registry.options(GAME, "roms")
    assert registry.options(GAME) == {}
    with pytest.raises(ValueError, match="0 environments of Crafter"):
        registry.make(GAME, [], RULES)


def test_without_the_package_one_line_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['crafter'] = None\n"
        "from pipelines.environments import registry\n"
        "from pipelines.environments.actions import own_actions\n"
        "own_actions('Crafter')\n"
        "try: registry.make('Crafter', [1], registry.protocol('crafter'))\n"
        "except registry.UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "Crafter is played in its package, and crafter is not installed: pip install 'worldline[crafter]'\n"
    )


if __name__ == "__main__":
    print(played_digest())  # in a process of its own
