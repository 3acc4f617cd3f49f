"""Plain emulators: equal to ale-py's environment under Dopamine's rules, to IRIS's wrappers under its own."""

from dataclasses import replace

import numpy as np
import pytest
from ale_py import Action, ALEInterface
from PIL import Image

from pipelines.environments.atari.emulator_game import EmulatorGame
from pipelines.environments.atari.games import IDS, PROTOCOLS, minimal_actions, rom_path
from pipelines.environments.atari.roms import shipped
from pipelines.environments.registry import make, protocol


@pytest.mark.parametrize("colour", [False, True])
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


@pytest.mark.parametrize("rules", ["iris", "iris-train"])
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


def test_no_ops_are_drawn_by_the_seed_and_never_none() -> None:
    seeds = list(range(12))
    frames = make("Freeway", seeds, protocol("iris-train")).reset()
    found = [noops_of(seed, frame) for seed, frame in zip(seeds, frames, strict=True)]
    assert set(found) <= set(range(1, 31)) and len(set(found)) > 5
    again = make("Freeway", seeds[:3], protocol("iris-train"))
    again.reset()
    again.step(np.full(3, IDS["UP"]))
    np.testing.assert_array_equal(again.reset(), frames[:3])


def test_a_restarted_row_plays_as_a_new_environment_of_that_seed() -> None:
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


def test_actions_that_the_game_lacks_are_refused() -> None:
    vector = make("Skiing", [0], protocol("iris"))
    vector.reset()
    with pytest.raises(ValueError, match="FIRE is no action of Skiing"):
        vector.step(np.array([IDS["FIRE"]]))
