"""Scripted players on drawn frames, where the right action is plain to see, and against random play in the emulator."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.atari.actions import ACTIONS, legal_mask, minimal_actions
from pipelines.atari.environment import make_vector
from pipelines.atari.games import GAMES
from pipelines.atari.protocols import protocol
from pipelines.atari.scripts import SCRIPTS, Script, boxing, breakout, freeway, pong


def name_of(script: Script, frame: NDArray[np.uint8]) -> str:
    return ACTIONS[script(frame[None])[0]]


def breakout_frame(ball: tuple[int, int] | None, paddle: int) -> NDArray[np.uint8]:
    """`ball` is (row, column), `paddle` the column of its left end."""
    frame = np.zeros((84, 84), np.uint8)
    frame[24:38] = 142
    frame[76:78, paddle : paddle + 8] = 148
    if ball:
        frame[ball] = 100
    return frame


def boxing_frame(white: tuple[int, int], black: tuple[int, int], white_width: int = 7) -> NDArray[np.uint8]:
    """Two bars of 18 x 7 pixels whose top left corners are given as (row, column)."""
    frame = np.full((84, 84), 110, np.uint8)
    frame[black[0] : black[0] + 18, black[1] : black[1] + 7] = 0
    frame[white[0] : white[0] + 18, white[1] : white[1] + white_width] = 214
    return frame


def test_freeway_always_walks_up() -> None:
    assert freeway(np.zeros((3, 84, 84), np.uint8)).tolist() == [2, 2, 2]


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
        ((20, 20), (50, 55), "DOWNRIGHT"),
        ((50, 55), (20, 20), "UPLEFT"),
        ((20, 55), (50, 20), "DOWNLEFT"),
        ((50, 20), (20, 55), "UPRIGHT"),
    ],
)
def test_boxing_approaches_from_any_side(white: tuple[int, int], black: tuple[int, int], action: str) -> None:
    assert name_of(boxing, boxing_frame(white, black)) == action


def test_boxing_punches_within_reach_and_draws_the_arm_back() -> None:
    assert name_of(boxing, boxing_frame((30, 30), (33, 39))).endswith("FIRE")
    assert "FIRE" not in name_of(boxing, boxing_frame((30, 24), (33, 41), white_width=15))
    assert "FIRE" not in name_of(boxing, boxing_frame((30, 20), (33, 58)))


@pytest.mark.parametrize("game", sorted(SCRIPTS))
def test_scripts_are_of_known_games_and_keep_to_their_actions(game: str) -> None:
    assert game in GAMES
    noise = np.random.default_rng(0).integers(0, 256, (64, 84, 84)).astype(np.uint8)
    frames = np.concatenate([noise, np.zeros((1, 84, 84), np.uint8), np.full((1, 84, 84), 255, np.uint8)])
    actions = SCRIPTS[game](frames)
    assert actions.shape == (66,)
    assert legal_mask(game)[actions].all()


@pytest.mark.parametrize(("game", "steps"), [("Breakout", 300), ("Boxing", 500)])
def test_scripts_with_eyes_beat_random_play(game: str, steps: int) -> None:
    rng = np.random.default_rng(0)
    points = {}
    for player in ("script", "random"):
        vector = make_vector(game, 2, protocol("sticky"), 0)
        frames = vector.reset()
        points[player] = 0.0
        for _ in range(steps):
            actions = SCRIPTS[game](frames) if player == "script" else rng.choice(minimal_actions(game), 2)
            step = vector.step(actions)
            frames = step.frames
            points[player] += float(step.rewards.sum())
    assert points["script"] > points["random"] + 4
