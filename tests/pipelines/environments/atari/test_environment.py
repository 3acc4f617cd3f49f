"""Vector environment and plain emulators against each other and the papers' wrappers; promises about seeds and ends."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from ale_py import Action, ALEInterface
from PIL import Image

from pipelines.environments.atari.environment import EmulatorGame, grey
from pipelines.environments.atari.games import GAMES, GREY_APART, IDS, PROTOCOLS, minimal_actions, rom_path
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


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_rgb_screens_become_the_grey_ones_of_the_emulator(game: str) -> None:
    emulator, rng = ALEInterface(), np.random.default_rng(0)
    emulator.loadROM(str(rom_path(game)))
    emulator.reset_game()
    same = True
    for _ in range(150):
        emulator.act(Action(int(rng.integers(18))))
        same = same and (grey(emulator.getScreenRGB()) == emulator.getScreenGrayscale()).all()
    assert same == (game not in GREY_APART)


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

    with pytest.raises(UsageError, match="Pong cannot be played under 'crafter': choose rules of its own, sticky"):
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


@pytest.mark.parametrize("colour", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("game", ["Pong", "Breakout"])
def test_under_dopamines_rules_it_is_ale_pys_environment(game: str, colour: bool) -> None:
    rules = replace(PROTOCOLS["sticky"], colour=colour, max_frames=600)
    ours, theirs = EmulatorGame(shipped(game), [3, 8], rules), make(game, [3, 8], rules)
    assert type(theirs) is not EmulatorGame and ours.spaces == theirs.spaces and ours.roots() == theirs.roots()
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    for _ in range(170):  # past the limit
        actions = rng.choice(minimal_actions(game), 2)
        left, right = ours.step(actions), theirs.step(actions)
        for name, value in vars(left).items():
            np.testing.assert_array_equal(value, getattr(right, name), err_msg=name)


class ByHand:
    """IRIS's wrappers written out: one emulator, its first no-ops given."""

    def __init__(self, game: str, seed: int, noops: int) -> None:
        self.ale = ALEInterface()
        self.ale.setInt("random_seed", seed)
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(str(rom_path(game)))
        self.ale.reset_game()
        for _ in range(noops):
            self.ale.act(Action.NOOP)
        self.lives = self.ale.lives()

    def frame(self) -> np.ndarray:
        return np.array(Image.fromarray(self.ale.getScreenRGB()).resize((64, 64), Image.BILINEAR))

    def step(self, action: int) -> tuple[np.ndarray, float, bool]:
        """The frame, the points, and whether a life (but not the last) was lost."""
        points, seen = 0.0, np.zeros((2, 64, 64, 3), np.uint8)
        for number in range(4):
            points += self.ale.act(Action(action))
            if number >= 2:
                seen[number - 2] = self.frame()
        lives, before = self.ale.lives(), self.lives
        self.lives = lives
        return seen.max(axis=0), points, 0 < lives < before


def noops_of(seed: int, frame: np.ndarray) -> int:
    """How many no-ops began an episode of Freeway, whose cars tell every frame from the next."""
    hand = ByHand("Freeway", seed, 0)
    return next(count for count in range(31) if (hand.frame() == frame).all() or hand.ale.act(Action.NOOP) is None)


@pytest.mark.parametrize("rules", [pytest.param("iris", marks=pytest.mark.slow), "iris-train"])
@pytest.mark.parametrize("game", ["Breakout", "MsPacman"])
def test_under_iris_rules_it_is_its_wrappers(game: str, rules: str) -> None:
    vector = make(game, [11], protocol(rules))
    (first,) = vector.reset()
    assert vector.spaces.frame == (64, 64, 3) and first.shape == (64, 64, 3)
    hand = ByHand(game, 11, 1 if rules == "iris" else int(np.random.default_rng(11).integers(1, 31)))
    np.testing.assert_array_equal(first, hand.frame())
    rng, lost, ends = np.random.default_rng(2), 0, 0
    for number in range(400):
        action = int(rng.choice(minimal_actions(game)))
        step, (frame, points, died) = vector.step(np.array([action])), hand.step(action)
        assert step.rewards[0] == points, number
        if hand.ale.game_over():
            assert step.terminated[0]
            break
        lost += died
        if died and rules == "iris-train":
            ends += 1
            assert step.terminated[0] and not step.truncated[0]
            frame, _, _ = hand.step(IDS["NOOP"])
        else:
            assert not step.ended[0]
        np.testing.assert_array_equal(step.frames[0], frame, err_msg=str(number))
    assert lost > 0 and ends == (lost if rules == "iris-train" else 0)


@pytest.mark.slow
def test_no_ops_are_drawn_by_the_seed_and_never_none() -> None:
    seeds = list(range(12))
    frames = make("Freeway", seeds, protocol("iris-train")).reset()
    found = [noops_of(seed, frame) for seed, frame in zip(seeds, frames, strict=True)]
    assert set(found) <= set(range(1, 31)) and len(set(found)) > 5
    again = make("Freeway", seeds[:3], protocol("iris-train"))
    again.reset()
    again.step(np.full(3, IDS["UP"]))
    np.testing.assert_array_equal(again.reset(), frames[:3])


def test_a_restarted_row_of_plain_emulators_plays_as_a_new_environment_of_that_seed() -> None:
    vector, alone = make("Breakout", [1, 2, 3], protocol("iris-train")), make("Breakout", [9], protocol("iris-train"))
    vector.reset()
    before = vector.step(np.full(3, IDS["FIRE"])).frames
    frames = vector.restart([1], [9])
    np.testing.assert_array_equal(frames[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(frames[1:2], alone.reset())
    rng = np.random.default_rng(0)
    for _ in range(80):
        actions = rng.choice(minimal_actions("Breakout"), 3)
        np.testing.assert_array_equal(vector.step(actions).frames[1], alone.step(actions[1:2]).frames[0])


def test_the_limit_counts_emulator_frames_and_truncates() -> None:
    vector = make("Pong", [0], replace(PROTOCOLS["iris"], max_frames=41))
    first = vector.reset()
    ends = [vector.step(np.array([IDS["RIGHT"]])) for _ in range(10)]  # a no-op and ten steps of 4
    assert [step.truncated[0] for step in ends] == [False] * 9 + [True]
    assert not any(step.terminated[0] for step in ends)
    assert ends[-1].frames.shape == first.shape


def test_plain_emulators_refuse_actions_that_the_game_lacks() -> None:
    vector = make("Skiing", [0], protocol("iris"))
    vector.reset()
    with pytest.raises(ValueError, match="FIRE is no action of Skiing"):
        vector.step(np.array([IDS["FIRE"]]))
