"""Spaces: plain JSON and back, what fits what, and one line for everything impossible."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.spaces import Box, Discrete, Spaces

NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=8, unique=True)
CRAFTER = Spaces((64, 64, 3), Discrete(tuple(f"action {number}" for number in range(17))))
ATARI = Discrete(("NOOP", "FIRE", "UP", "DOWN"), {"Freeway": ("NOOP", "DOWN", "UP")})


@st.composite
def spaces(draw: st.DrawFn) -> Spaces:
    frame = (draw(st.integers(1, 200)), draw(st.integers(1, 200)), draw(st.sampled_from([1, 3])))
    if draw(st.booleans()):
        actions: Discrete | Box = Box(draw(st.integers(1, 9)), draw(st.floats(-9, -1)), draw(st.floats(0, 9)))
    else:
        names = draw(NAMES)
        subset = st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple)
        actions = Discrete(tuple(names), draw(st.dictionaries(st.text(max_size=5), subset, max_size=3)))
    return Spaces(frame, actions, draw(st.sampled_from(["raw", "clipped"])))


@given(spaces())
def test_json_leads_back_to_equal_spaces(made: Spaces) -> None:
    assert Spaces.from_json(json.loads(json.dumps(made.to_json()))) == made
    hash(made)
    made.require_fit(made, "the agent", "the game")


def test_a_games_own_actions_are_a_choice_out_of_the_shared_ones() -> None:
    assert ATARI.own("Freeway") == (0, 3, 2) and ATARI.mask("Freeway") == (True, False, True, True)
    assert ATARI.own("Boxing") == (0, 1, 2, 3) and all(ATARI.mask("Boxing"))
    assert len(ATARI) == 4


def test_arrays_of_grey_frames_have_no_channel_axis() -> None:
    assert Spaces((84, 80, 1), ATARI).frame_shape == (84, 80)
    assert CRAFTER.frame_shape == (64, 64, 3)


def test_an_agent_that_does_not_fit_is_told_why() -> None:
    grey, box = Spaces((84, 84, 1), ATARI), Spaces((64, 64, 3), Box(4))
    with pytest.raises(ValueError, match="Mine sees frames of 84x84 grey, Crafter shows 64x64 RGB: "):
        grey.require_fit(CRAFTER, "Mine", "Crafter")
    with pytest.raises(ValueError, match=r"Mine chooses among 4 numbers from -1 to 1, Crafter takes 17 actions"):
        box.require_fit(CRAFTER, "Mine", "Crafter")
    one_game = Spaces((84, 84, 1), Discrete(ATARI.names, {"Pong": ("NOOP",)}), "clipped")
    grey.require_fit(one_game, "Mine", "Pong")  # the game uses fewer of the same actions


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"frame": [84, 84]}, r"Frames of \(84, 84\) are impossible"),
        ({"frame": [84, 84, 2]}, "1 channel"),
        ({"frame": [0, 84, 1]}, "at least 1"),
        ({"frame": [True, 84, 1]}, "at least 1"),
        ({"frame": 84}, "of another form"),
        ({"rewards": "cliped"}, "Rewards 'cliped' are unknown: choose raw or clipped"),
        ({"actions": {"names": []}}, "at least one name"),
        ({"actions": {"names": ["UP", "UP"]}}, "name 'UP' twice"),
        ({"actions": {"names": ["UP"], "legal": {"Pong": ["DOWN"]}}}, "'DOWN' is legal in Pong and none of the 1"),
        ({"actions": {"names": ["UP"], "legal": {"Pong": []}}}, "legal actions of Pong are"),
        ({"actions": {"names": [3]}}, "at least one name"),
        ({"actions": {"box": 0, "low": 0, "high": 1}}, "An action of 0 numbers"),
        ({"actions": {"box": 2, "low": 1, "high": 1}}, "low must be below high"),
        ({"actions": {"box": 2}}, "without 'low'"),
        ({"actions": {}}, "without 'names'"),
        ({"actions": "UP"}, "of another form"),
    ],
)
def test_impossible_spaces_are_one_line(data: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words) if "\\" not in words else words) as caught:
        Spaces.from_json(CRAFTER.to_json() | data)
    assert "\n" not in str(caught.value)
