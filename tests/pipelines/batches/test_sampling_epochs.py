"""Steps and (epoch, position): each the other's inverse, for epochs of any length."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.batches.sampling import Epochs, Mixture

LENGTHS = st.fractions(min_value=Fraction(1, 50), max_value=10_000, max_denominator=1000)


@given(LENGTHS, st.integers(0, 10**9))
def test_a_place_leads_back_to_its_step(length: Fraction, step: int) -> None:
    epochs = Epochs(length)
    epoch, position = epochs.place(step)
    assert epochs.step(epoch, position) == step
    assert epoch * length <= step < (epoch + 1) * length


@given(LENGTHS, st.integers(0, 10**6))
def test_places_follow_each_other(length: Fraction, step: int) -> None:
    here, after = Epochs(length).place(step), Epochs(length).place(step + 1)
    assert after == (here[0], here[1] + 1) or (after[0] > here[0] and after[1] == 0)


def test_the_source_that_takes_longest_counts() -> None:
    assert Epochs.of([100, 30], Mixture(None, 2), 8).steps == 25
    assert Epochs.of([100, 90], Mixture([3, 1], 2), 8).steps == 45
    epochs = Epochs.of([10], Mixture(None, 1), 4)  # 2.5 batches: an epoch of three, then one of two
    assert [epochs.place(step) for step in range(6)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]


@pytest.mark.parametrize(("epoch", "position"), [(0, 3), (1, 2), (0, -1), (-1, 0)])
def test_a_place_that_is_not_there_is_refused(epoch: int, position: int) -> None:
    with pytest.raises(ValueError, match=f"Epoch {epoch} has . batches, position {position} is none of them"):
        Epochs(Fraction(5, 2)).step(epoch, position)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="before the first"):
        Epochs(Fraction(3)).place(-1)
    with pytest.raises(ValueError, match="more than 0"):
        Epochs(Fraction(0))
