"""Orders are read strictly, pictures arrive as they were."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.play.mode import Shown
from pipelines.play.protocol import LONGEST, ORDERS, BadOrder, parts, pictures, read

GOOD = {
    "press": {"action": 3},
    "hold": {"action": None},
    "pause": {"on": True},
    "step": {},
    "reset": {},
    "speed": {"value": 60},
    "mode": {"name": "dream"},
    "choose": {"of": "evaluated"},
    "dream": {"episode": 3, "step": 0},
    "seek": {"episode": 0, "step": 9},
    "record": {"on": False},
    "ask": {"on": True},
    "keep": {"on": False},
    "take": {},
    "seen": {"number": 12},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
BAD = [
    ("press", {"action": -1}, "its range"),
    ("press", {"action": True}, "its range"),
    ("press", {"action": 1.0}, "its range"),
    ("press", {}, "exactly the fields action"),
    ("step", {"more": 1}, "exactly the fields none"),
    ("speed", {"value": 61}, "its range"),
    ("speed", {"value": 0}, "its range"),
    ("pause", {"on": 1}, "its range"),
    ("mode", {"name": "a\nb"}, "its range"),
    ("mode", {"name": "x" * 41}, "its range"),
    ("seek", {"episode": 0, "step": 2**40}, "its range"),
    ("fly", {}, "whose 'do' is one of press"),
]


@pytest.mark.parametrize("do", ORDERS)
def test_every_order_is_read(do: str) -> None:
    order = read(json.dumps({"do": do, **GOOD[do]}))
    assert order.do == do and dict(order.fields) == GOOD[do]


@pytest.mark.parametrize(("do", "fields", "why"), BAD)
def test_what_no_page_sends_is_refused(do: str, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(BadOrder, match=why):
        read(json.dumps({"do": do, **fields}))


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")) | JSON.map(json.dumps))
def test_any_text_is_an_order_or_refused(text: str) -> None:
    with suppress(BadOrder):
        assert read(text).do in ORDERS


WILD = st.fixed_dictionaries(
    {"do": st.sampled_from(sorted(ORDERS))}, optional={name: JSON for each in ORDERS.values() for name in each}
)


@given(WILD)
def test_wild_fields_are_refused_or_within_their_range(found: dict[str, Any]) -> None:
    try:
        order = read(json.dumps(found))
    except BadOrder:
        return
    assert all(ORDERS[order.do][name](value) for name, value in order.fields.items())


def test_long_or_deep_text_is_refused_unread() -> None:
    with pytest.raises(BadOrder, match=f"at most {LONGEST}"):
        read(json.dumps({"do": "mode", "name": "x" * LONGEST}))
    with pytest.raises(BadOrder):
        read("[" * LONGEST)


def test_pictures_arrive_as_they_were() -> None:
    draw = np.random.default_rng(0)
    grey, colour = draw.integers(0, 256, (5, 7), np.uint8), draw.integers(0, 256, (4, 3, 3), np.uint8)
    flipped = colour[::-1]  # not contiguous
    values = np.array([1.5, np.nan, -np.inf], np.float32)
    shown = Shown({"a": grey, "b": flipped}, 3, 2, float("nan"), 7.5, True, values, {"memory": "flushed"})
    head, found = parts(pictures(shown, 9, rate=14.2))
    assert (head["number"], head["step"], head["action"], head["reward"], head["total"]) == (9, 3, 2, None, 7.5)
    assert head["ended"] and head["values"] == [1.5, None, None] and head["rate"] == 14.2
    assert head["facts"] == {"memory": "flushed"} and [each["title"] for each in head["pictures"]] == ["a", "b"]
    assert np.array_equal(found[0], grey) and np.array_equal(found[1], flipped)


@pytest.mark.parametrize("picture", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 wanted"):
        pictures(Shown({"a": picture}, 0, None, 0.0, 0.0, False), 1)
