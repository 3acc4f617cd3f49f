"""The vector environment against a plain emulator, and its promises about seeds and episode ends."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from ale_py import Action, ALEInterface

from pipelines.atari.actions import IDS, minimal_actions
from pipelines.atari.environment import Step, make_vector
from pipelines.atari.games import rom_path
from pipelines.atari.protocols import protocol
from pipelines.errors import UsageError


def play(game: str, seed: int, threads: int, steps: int = 40) -> list[Step]:
    vector = make_vector(game, 2, protocol("sticky"), seed, threads)
    vector.reset()
    rng = np.random.default_rng(0)
    return [vector.step(rng.choice(minimal_actions(game), 2)) for _ in range(steps)]


def test_same_seed_same_frames_whatever_the_threads() -> None:
    one, two, other = play("Breakout", 5, 1), play("Breakout", 5, 2), play("Breakout", 6, 1)
    assert all((a.frames == b.frames).all() and (a.rewards == b.rewards).all() for a, b in zip(one, two, strict=True))
    assert any((a.frames != b.frames).any() for a, b in zip(one, other, strict=True))


def test_environments_have_their_own_seeds() -> None:
    vector = make_vector("Pong", 3, protocol("sticky"), 0, 1)
    assert len(set(vector.seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in vector.seeds)
    assert (vector.reset() == vector.reset()).all()


def test_frames_and_rewards_equal_a_hand_written_loop() -> None:
    vector = make_vector("SpaceInvaders", 1, protocol("sticky"), 3, 1)
    emulator = ALEInterface()
    emulator.setInt("random_seed", vector.seeds[0])
    emulator.setFloat("repeat_action_probability", 0.25)
    emulator.loadROM(str(rom_path("SpaceInvaders")))
    frame = vector.reset()
    rng = np.random.default_rng(1)
    for _ in range(60):
        action = rng.choice(minimal_actions("SpaceInvaders"), 1)
        step = vector.step(action)
        points = 0
        screens = []
        for _ in range(4):
            points += emulator.act(Action(int(action[0])))
            screens.append(emulator.getScreenGrayscale())
        wanted = cv2.resize(np.maximum(screens[2], screens[3]), (84, 84), interpolation=cv2.INTER_AREA)
        assert (step.frames[0] == wanted).all()
        assert step.rewards[0] == points
    assert (step.frames != frame).any()


def test_the_limit_truncates_and_the_next_episodes_first_frame_follows() -> None:
    vector = make_vector("Pong", 2, replace(protocol("sticky"), max_frames=40), 0, 1)
    first = vector.reset()
    for count in range(1, 11):
        step = vector.step(np.array([IDS["RIGHT"]] * 2))
        assert step.truncated.tolist() == [count == 10] * 2
        assert not step.terminated.any()
    assert step.ended.all()
    assert (step.frames == first).all()


def test_frames_of_a_step_survive_the_next_step() -> None:
    vector = make_vector("Pong", 1, protocol("sticky"), 0, 1)
    vector.reset()
    step = vector.step(np.array([0]))
    copy = step.frames.copy()
    for _ in range(30):
        vector.step(np.array([IDS["LEFT"]]))
    assert (step.frames == copy).all()


def test_actions_that_the_game_lacks_are_refused() -> None:
    vector = make_vector("Skiing", 1, protocol("sticky"), 0, 1)
    vector.reset()
    with pytest.raises(ValueError, match="FIRE is no action of Skiing"):
        vector.step(np.array([IDS["FIRE"]]))


def test_unknown_game_and_no_environments() -> None:
    with pytest.raises(UsageError, match="Unknown game 'pong'"):
        make_vector("pong", 1, protocol("sticky"), 0)
    with pytest.raises(ValueError, match="0 environments"):
        make_vector("Pong", 0, protocol("sticky"), 0)
