"""Scripted players on drawn frames, where the right action is plain to see, and against random play in the emulator."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.environments.atari.games import ACTIONS, GAMES, IDS, minimal_actions
from pipelines.environments.atari.scripts import SCRIPTS, Script, boxing, breakout, freeway, pong
from pipelines.environments.registry import emulator_seeds, legal_mask, make, protocol


def name_of(script: Script, frame: NDArray[np.uint8], last: str = "NOOP") -> str:
    return ACTIONS[script(frame[None], np.array([IDS[last]]))[0]]


def breakout_frame(ball: tuple[int, int] | None, paddle: int) -> NDArray[np.uint8]:
    """`ball` is (row, column), `paddle` the column of its left end."""
    frame = np.zeros((84, 84), np.uint8)
    frame[24:38] = 142
    frame[76:78, paddle : paddle + 8] = 148
    if ball:
        frame[ball] = 100
    return frame


def boxing_frame(white: tuple[int, int], black: tuple[int, int]) -> NDArray[np.uint8]:
    """Two bars of 18 x 7 pixels whose top left corners are given as (row, column)."""
    frame = np.full((84, 84), 110, np.uint8)
    frame[black[0] : black[0] + 18, black[1] : black[1] + 7] = 0
    frame[white[0] : white[0] + 18, white[1] : white[1] + 7] = 214
    return frame


def test_freeway_always_walks_up() -> None:
    assert freeway(np.zeros((3, 84, 84), np.uint8), np.zeros(3, np.int64)).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("ball", "action"), [((60, 70), "RIGHT"), ((60, 10), "LEFT"), ((60, 43), "NOOP"), (None, "FIRE")]
)
def test_breakout_follows_the_ball(ball: tuple[int, int] | None, action: str) -> None:
    assert name_of(breakout, breakout_frame(ball, paddle=40)) == action


@pytest.mark.parametrize(("ball", "action"), [((20, 40), "RIGHT"), ((70, 40), "LEFT"), (None, "FIRE")])
def test_pong_follows_the_ball(ball: tuple[int, int] | None, action: str) -> None:
    frame = np.full((84, 84), 87, np.uint8)
    frame[40:48, 74] = 147
    if ball:
        frame[ball] = 236
    assert name_of(pong, frame) == action


@pytest.mark.parametrize(
    ("white", "black", "action"),
    [
        ((20, 20), (50, 55), "DOWN"),
        ((50, 55), (20, 20), "UP"),
        ((30, 55), (33, 20), "LEFT"),
        ((30, 20), (33, 55), "RIGHT"),
    ],
)
def test_boxing_approaches_from_any_side(white: tuple[int, int], black: tuple[int, int], action: str) -> None:
    assert name_of(boxing, boxing_frame(white, black)) == action


def test_boxing_punches_within_reach_every_other_step() -> None:
    in_reach = boxing_frame((30, 30), (33, 39))
    assert name_of(boxing, in_reach) == "FIRE"
    assert name_of(boxing, in_reach, last="FIRE") == "NOOP"
    assert name_of(boxing, boxing_frame((30, 20), (33, 58)), last="FIRE") == "RIGHT"


@pytest.mark.parametrize("game", sorted(SCRIPTS))
def test_scripts_are_of_known_games_and_keep_to_their_actions(game: str) -> None:
    assert game in GAMES
    noise = np.random.default_rng(0).integers(0, 256, (64, 84, 84)).astype(np.uint8)
    frames = np.concatenate([noise, np.zeros((1, 84, 84), np.uint8), np.full((1, 84, 84), 255, np.uint8)])
    actions = SCRIPTS[game](frames, np.zeros(66, np.int64))
    assert actions.shape == (66,)
    assert legal_mask(game)[actions].all()


@pytest.mark.parametrize(("game", "steps"), [("Breakout", 300), ("Boxing", 500)])
def test_scripts_with_eyes_beat_random_play(game: str, steps: int) -> None:
    rng = np.random.default_rng(0)
    points = {}
    for player in ("script", "random"):
        vector = make(game, emulator_seeds(0, 2), protocol("sticky"))
        frames = vector.reset()
        points[player], last = 0.0, np.zeros(2, np.int64)
        for _ in range(steps):
            actions = SCRIPTS[game](frames, last) if player == "script" else rng.choice(minimal_actions(game), 2)
            step = vector.step(actions)
            frames, last = step.frames, actions
            points[player] += float(step.rewards.sum())
    assert points["script"] > points["random"] + 4
