"""The cycle of sources: exact shares, and each source's own samples numbered without a gap."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.batches.sampling import CYCLE, Mixture, cycle

WEIGHTS = st.lists(st.floats(0.01, 5.0), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(WEIGHTS)
def test_the_cycle_keeps_shares_within_a_sample_or_so(weights: list[float]) -> None:
    found = cycle(weights, len(weights))
    shares = np.array(weights) / sum(weights)
    for part in (found[:100], found):
        if len(part) >= len(weights):
            assert np.abs(np.bincount(part, minlength=len(weights)) - shares * len(part)).max() <= len(weights)


@settings(max_examples=30, deadline=None)
@given(WEIGHTS, st.integers(1, 300), st.integers(0, 200))
def test_a_source_gives_its_samples_one_after_the_other(weights: list[float], count: int, first: int) -> None:
    mixture = Mixture(weights, len(weights))
    slots, nths = (
        np.concatenate(parts) for parts in zip(*[mixture.samples(first + i, count) for i in range(3)], strict=True)
    )
    for slot in range(len(weights)):
        own = nths[slots == slot]
        assert (np.diff(own) == 1).all()
    assert sum(mixture.share(slot) for slot in range(len(weights))) == 1


@given(st.integers(1, 400), st.integers(0, 50))
def test_the_samples_do_not_depend_on_how_they_are_cut_into_batches(count: int, step: int) -> None:
    mixture = Mixture([3.0, 1.0, 0.5], 3)
    whole = mixture.samples(0, count * (step + 1))
    part = mixture.samples(step, count)
    for all_of_them, ours in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_them[count * step :], ours)


def test_shares_are_exact() -> None:
    assert Mixture(None, 3).share(2) == Fraction(1, 3)
    assert Mixture([3, 1], 2).share(0) == Fraction(3, 4)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, float("nan")], [1.0, -2.0], [1.0, 0.5 / CYCLE]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="Weights"):
        Mixture(weights, 2)
