"""Draws from named streams: which class a number stands for, and that a part of a batch draws as the whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.api import Moment
from models.practice.draws import Given, Sampled, choose, likeliest


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0, 1, exclude_max=True), st.data())
def test_no_class_of_probability_0_is_drawn(logits: list[float], uniform: float, data: st.DataObject) -> None:
    none = data.draw(st.sets(st.integers(0, len(logits) - 1), max_size=len(logits) - 1))
    masked = torch.tensor([[-torch.inf if place in none else logit for place, logit in enumerate(logits)]])
    found = int(choose(masked, torch.tensor([uniform], dtype=torch.float64)))
    assert 0 <= found < len(logits) and found not in none


def test_classes_are_drawn_as_often_as_they_are_likely() -> None:
    probs = torch.tensor([0.1, 0.0, 0.6, 0.3])
    uniform = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    found = choose(probs.log().expand(10_000, -1), uniform).bincount(minlength=4) / 10_000
    assert found.tolist() == pytest.approx(probs.tolist(), abs=2e-4)


def test_the_largest_number_below_1_draws_a_class_that_there_is() -> None:
    almost = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert int(choose(torch.tensor([[0.0, 1.0, -torch.inf]]), almost)) == 1


def test_parts_draw_what_the_whole_batch_draws_and_kinds_do_not_disturb_each_other() -> None:
    logits = torch.zeros(6, 1000)
    whole, part, alone = (Sampled(5, "x", Moment(2, *rows)) for rows in ((0, 6), (2, 6), (0, 6)))
    rows = slice(2, 5)
    for _ in range(3):
        all_rows = whole("tokens", logits)
        whole("ends", logits)
        assert torch.equal(part("tokens", logits[rows]), all_rows[rows])
        assert torch.equal(alone("tokens", logits), all_rows)
    others = (Sampled(6, "x", Moment(2, 0, 6)), Sampled(5, "y", Moment(2, 0, 6)), Sampled(5, "x", Moment(3, 0, 6)))
    first = Sampled(5, "x", Moment(2, 0, 6))("tokens", logits)
    assert not any(torch.equal(other("tokens", logits), first) for other in others)


def test_given_draws_are_used_up() -> None:
    draw = Given(ends=[torch.tensor([1])])
    assert draw("ends", torch.zeros(1, 2)).item() == 1 and likeliest("ends", torch.tensor([[0.0, 1.0]])).item() == 1
    with pytest.raises(ValueError, match="Only 1 draws of ends are given"):
        draw("ends", torch.zeros(1, 2))
