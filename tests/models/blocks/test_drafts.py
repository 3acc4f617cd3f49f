"""Drafts are verified: whatever the draft, what is kept is what one by one chooses, in no more passes than places."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.blocks.drafts import Drafts, Ints, Pace, copies_right, fixed_cost

PLACES, CODES = 7, 3  # the first place is given


def follows(before: tuple[int, ...]) -> int:
    """A world that is looked up: the token behind these, of all of which it depends."""
    return (sum((place + 2) * token for place, token in enumerate(before)) + len(before)) % CODES


def truth(row: int) -> list[int]:
    """A row's frame, one by one: its number is what is given."""
    known = [row]
    while len(known) < PLACES:
        known.append(follows(tuple(known)))
    return known[1:]


def verify(drafts: Drafts, each: int | list[int]) -> list[tuple[int, int]]:
    """Read until nothing is left; what each pass said of the drafted tokens it looked at."""
    seen = []
    while drafts.unfinished:
        rows_T, places_T = drafts.ask(each if isinstance(each, int) else each[len(seen) % len(each)])
        read = [
            follows((row, *drafts.tokens_MS[row, 1 : place + 1].tolist()))
            for row, place in zip(rows_T.tolist(), places_T.tolist(), strict=True)
        ]
        seen.append(drafts.tell(rows_T, places_T, np.array(read)))
    return seen


def wanted(rows: int) -> Ints:
    return np.array([truth(row) for row in range(rows)])


@given(st.data(), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_any_draft_in_any_pieces_ends_in_what_one_by_one_chooses(data: st.DataObject, rows: int) -> None:
    codes = st.integers(0, CODES - 1)
    draft = np.array([[data.draw(codes) for _ in range(PLACES - 1)] for _ in range(rows)])
    each = data.draw(st.lists(st.integers(1, PLACES), min_size=1, max_size=4))
    drafts = Drafts(draft)
    seen = verify(drafts, each)
    assert drafts.tokens_MS[:, 1:].tolist() == wanted(rows).tolist()
    assert len(seen) <= PLACES and drafts.read == PLACES
    assert sum(map(sum, seen)) == rows * (PLACES - 1)  # every token was kept, or put right, once


def test_a_right_draft_takes_one_pass_and_rows_that_are_done_are_not_read_again() -> None:
    draft = wanted(3)
    draft[1, 3] += 1
    drafts = Drafts(draft % CODES)
    rows_T, places_T = drafts.ask(PLACES)
    assert rows_T.tolist() == [0] * 7 + [1] * 7 + [2] * 7 and places_T.tolist() == [*range(PLACES)] * 3
    assert verify(Drafts(wanted(3)), PLACES) == [(18, 0)]
    assert verify(drafts, PLACES)[0] == (6 + 3 + 6, 1)
    again = Drafts(draft % CODES)
    again.ask(PLACES)
    again.tell(rows_T, places_T, np.concatenate([[*truth(0), 0], [*truth(1), 0], [*truth(2), 0]]))
    assert again.first_M.tolist() == [PLACES, 4, PLACES] and again.unfinished == 1 and again.read == 4
    assert [each.tolist() for each in again.ask(2)] == [[1, 1], [4, 5]]


def test_behind_a_wrong_token_the_draft_is_what_the_pass_said() -> None:
    drafts = Drafts(np.array([[1, 1, 1, 1, 1, 1]]))
    asked = drafts.ask(5)
    assert drafts.tell(*asked, np.array([1, 2, 0, 1, 2])) == (1, 1)
    assert drafts.tokens_MS.tolist() == [[0, 1, 2, 0, 1, 2, 1]] and drafts.first_M.tolist() == [2]


def test_the_rest_is_finished_one_by_one() -> None:
    drafts = Drafts(np.zeros((2, 6), dtype=np.int64))
    asked = drafts.ask(3)
    drafts.tell(*asked, np.array([0, 0, 0, 0, 5, 0]))
    assert drafts.read == 2 and drafts.first_M.tolist() == [3, 2]
    drafts.finish(np.array([[0, 0, 1, 0], [0, 0, 0, 0]]))
    assert drafts.tokens_MS[:, 1:].tolist() == [[0, 0, 0, 0, 1, 0], [0, 5, 0, 0, 0, 0]]
    assert not drafts.unfinished


def test_the_pace_is_one_by_one_where_drafts_are_wrong_and_whole_frames_where_they_are_right() -> None:
    assert Pace(0.0, 16).each(1, 37) == 1 and Pace(1.0, 16).each(1, 37) == 37
    pace = Pace(0.99, 16)
    each = [pace.each(2, 37)]
    for _ in range(25):
        pace.saw(0, 2)
        each.append(pace.each(2, 37))
    assert each[0] == 37 and each == sorted(each, reverse=True) and each[-1] == 1
    assert pace.prefers_one_by_one(Drafts(np.zeros((2, 36), dtype=np.int64)))
    for _ in range(20):
        pace.saw(36, 1)
    assert pace.each(2, 37) > 18  # old failures are forgotten


@pytest.mark.parametrize("right", [0.5, 0.9, 0.97])
def test_more_rows_or_wider_layers_read_fewer_tokens_each_and_an_accelerator_more(right: float) -> None:
    narrow, wide = (fixed_cost(width, "cpu") for width in (128, 512))
    each = [Pace(right, narrow).each(rows, 37) for rows in (1, 4, 16, 64, 256)]
    assert each == sorted(each, reverse=True) and each[0] > each[-1] >= 1
    assert Pace(right, wide).each(1, 37) < each[0] <= Pace(right, fixed_cost(512, "cuda")).each(1, 37)


def test_what_is_expected_of_drafts_is_read_off_the_real_frames() -> None:
    same, other = torch.zeros(2, 3, 4, dtype=torch.long), torch.arange(24).view(2, 3, 4)
    half = same.clone()
    half[:, 1, :2] = 1
    found = [copies_right(tokens) for tokens in (same, half, other, same[:, :1])]
    assert found == [1, 0.875, 0, 0.9]


def test_rows_that_are_done_are_not_taken_along_one_by_one() -> None:
    drafts, pace = Drafts(np.zeros((9, 6), dtype=np.int64)), Pace(0.0, 16)
    assert pace.prefers_one_by_one(drafts)
    drafts.first_M[:5] = drafts.places
    assert not pace.prefers_one_by_one(drafts)
