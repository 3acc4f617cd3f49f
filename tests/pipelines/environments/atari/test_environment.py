"""The vector environment against a plain emulator, and its promises about seeds and episode ends."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from ale_py import Action, ALEInterface

from pipelines.environments.atari.games import GAMES, IDS, minimal_actions, rom_path
from pipelines.environments.atari.roms import shipped
from pipelines.environments.registry import Environment, Step, emulator_seeds, make, protocol
from pipelines.errors import UsageError


def make_vector(game: str, count: int, rules: str, seed: int, threads: int = 2) -> Environment:
    return make(game, emulator_seeds(seed, count), protocol(rules), threads)


def play(game: str, seed: int, threads: int, steps: int = 40) -> list[Step]:
    vector = make_vector(game, 2, "sticky", seed, threads)
    vector.reset()
    rng = np.random.default_rng(0)
    return [vector.step(rng.choice(minimal_actions(game), 2)) for _ in range(steps)]


def test_same_seed_same_frames_whatever_the_threads() -> None:
    one, two, other = play("Breakout", 5, 1), play("Breakout", 5, 2), play("Breakout", 6, 1)
    assert all((a.frames == b.frames).all() and (a.rewards == b.rewards).all() for a, b in zip(one, two, strict=True))
    assert any((a.frames != b.frames).any() for a, b in zip(one, other, strict=True))


def test_environments_have_their_own_seeds() -> None:
    vector = make_vector("Pong", 3, "sticky", 0, 1)
    assert len(set(vector.seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in vector.seeds)
    assert (vector.reset() == vector.reset()).all()


def same_as_by_hand(game: str, rules: str, steps: int) -> None:
    """Dopamine's preprocessing, written out, next to the vector environment."""
    vector = make_vector(game, 1, rules, 3, 1)
    emulator = ALEInterface()
    emulator.setInt("random_seed", vector.seeds[0])
    emulator.setFloat("repeat_action_probability", protocol(rules).sticky)
    emulator.loadROM(str(rom_path(game)))
    emulator.reset_game()  # as every reset does; without it four games differ after some seconds
    vector.reset()
    rng = np.random.default_rng(1)
    for number in range(steps):
        action = rng.choice(minimal_actions(game), 1)
        step = vector.step(action)
        points = 0
        screens = []
        for _ in range(4):
            points += emulator.act(Action(int(action[0])))
            screens.append(emulator.getScreenGrayscale())
        if emulator.game_over():
            assert step.terminated[0], (game, number)
            return
        wanted = cv2.resize(np.maximum(screens[2], screens[3]), (84, 84), interpolation=cv2.INTER_AREA)
        assert (step.frames[0] == wanted).all(), (game, number)
        assert step.rewards[0] == points, (game, number)


@pytest.mark.parametrize("game", ["SpaceInvaders", "Pong", "Carnival", "AirRaid", "Skiing"])
def test_frames_and_rewards_equal_a_hand_written_loop(game: str) -> None:
    same_as_by_hand(game, "machado", steps=60)


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["machado", "jowa"])
@pytest.mark.parametrize("game", GAMES)
def test_all_60_games_equal_a_hand_written_loop(game: str, rules: str) -> None:
    same_as_by_hand(game, rules, steps=400)


def first_noops(seeds: Sequence[int], rules: str) -> list[int]:
    """How many frames of no-ops began each episode of Freeway, whose cars tell every frame from the next."""
    vector = make("Freeway", seeds, protocol(rules), threads=1)
    vector.reset()
    wanted = vector.step(np.full(len(seeds), IDS["UP"])).frames
    found = []
    for seed, frame in zip(seeds, wanted, strict=True):
        emulator = ALEInterface()
        emulator.setInt("random_seed", seed)
        emulator.setFloat("repeat_action_probability", 0.0)
        emulator.loadROM(str(rom_path("Freeway")))
        emulator.reset_game()
        for count in range(40):
            state = emulator.cloneSystemState()
            screens = [emulator.getScreenGrayscale() for _ in range(4) if emulator.act(Action.UP) is not None]
            seen = cv2.resize(np.maximum(screens[2], screens[3]), (84, 84), interpolation=cv2.INTER_AREA)
            emulator.restoreSystemState(state)
            if (seen == frame).all():
                found.append(count)
                break
            emulator.act(Action.NOOP)
    return found


@pytest.mark.slow
def test_no_ops_are_0_to_29_emulator_frames_by_the_seed() -> None:
    seeds = emulator_seeds(1, 24)
    found = first_noops(seeds, "atari100k")
    assert len(found) == len(seeds) and len(set(found)) > 10
    assert set(found) <= set(range(30))
    assert first_noops(seeds[:3], "jowa") == [0, 0, 0]


@pytest.mark.parametrize("rules", ["machado", "atari100k"])
def test_a_restarted_row_plays_as_a_new_environment_of_that_seed(rules: str) -> None:
    vector = make_vector("Breakout", 3, rules, 0, 2)
    vector.reset()
    for action in (1, 3, 4, 3):
        before = vector.step(np.full(3, action)).frames
    frames = vector.restart([1], [99])
    assert (frames[[0, 2]] == before[[0, 2]]).all()
    alone = make("Breakout", [99], protocol(rules), threads=1)
    assert (alone.reset()[0] == frames[1]).all()
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = rng.choice(minimal_actions("Breakout"), 3)
        theirs, ours = vector.step(actions), alone.step(actions[1:2])
        assert (theirs.frames[1] == ours.frames[0]).all() and theirs.rewards[1] == ours.rewards[0]


def test_more_seeds_begin_with_the_same_ones() -> None:
    assert emulator_seeds(5, 9)[:4] == emulator_seeds(5, 4) != emulator_seeds(6, 4)


def test_the_limit_truncates_and_the_next_episodes_first_frame_follows() -> None:
    vector = make("Pong", emulator_seeds(0, 2), replace(protocol("sticky"), max_frames=40), threads=1)
    first = vector.reset()
    for count in range(1, 11):
        step = vector.step(np.array([IDS["RIGHT"]] * 2))
        assert step.truncated.tolist() == [count == 10] * 2
        assert not step.terminated.any()
    assert step.ended.all()
    assert (step.frames == first).all()


def test_frames_of_a_step_survive_the_next_step() -> None:
    vector = make_vector("Pong", 1, "sticky", 0, 1)
    vector.reset()
    step = vector.step(np.array([0]))
    copy = step.frames.copy()
    for _ in range(30):
        vector.step(np.array([IDS["LEFT"]]))
    assert (step.frames == copy).all()


def test_actions_that_the_game_lacks_are_refused() -> None:
    vector = make_vector("Skiing", 1, "sticky", 0, 1)
    vector.reset()
    with pytest.raises(ValueError, match="FIRE is no action of Skiing"):
        vector.step(np.array([IDS["FIRE"]]))


def test_unknown_game_and_no_environments() -> None:
    with pytest.raises(UsageError, match="Unknown game 'pong'"):
        make_vector("pong", 1, "sticky", 0)
    with pytest.raises(ValueError, match="0 environments"):
        make_vector("Pong", 0, "sticky", 0)


def test_it_says_what_is_played_and_how_it_looks() -> None:
    vector = make_vector("Pong", 1, "machado", 0)
    assert vector.spaces.frame == (84, 84, 1) and vector.reset().shape == (1, *vector.spaces.frame_shape)
    assert vector.spaces.actions.mask("Pong") == tuple(number in minimal_actions("Pong") for number in range(18))
    found = vector.roots()
    assert (found["game"], found["protocol"], found["rom_md5"]) == ("Pong", "sticky", shipped("Pong").md5)
    assert (found["sticky"], found["frame"], found["life_loss"]) == (0.25, [84, 84, 1], False)


def test_rules_of_another_kind_are_refused() -> None:
    class Others:
        name, frame, max_steps = "crafter", (64, 64, 3), 10_000

    with pytest.raises(UsageError, match="Pong cannot be played under crafter: choose rules of Atari"):
        make("Pong", [1], Others())


def test_larger_rgb_frames_are_those_of_the_screen() -> None:
    """The size and colour of frames are the rules' to say, also in ale-py's own environment."""
    rules = replace(protocol("jowa"), frame_size=96, colour=True)
    vector, emulator = make("Breakout", [5], rules), ALEInterface()
    emulator.setInt("random_seed", 5)
    emulator.setFloat("repeat_action_probability", 0.0)
    emulator.loadROM(str(rom_path("Breakout")))
    emulator.reset_game()
    wanted = cv2.resize(emulator.getScreenRGB(), (96, 96), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(vector.reset(), wanted[None])
