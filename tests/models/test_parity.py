import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.parity import compare, compare_exact


def test_error_is_relative_to_the_largest_golden_value() -> None:
    check = compare("x", [1.0, -4.0], [1.0, -3.0])
    assert check.error == pytest.approx(1 / 3)
    assert not check.ok and check.covered
    assert compare("x", [10.0, 0.0005], [10.0, 0.0]).ok  # small beside the 10


@pytest.mark.parametrize(
    ("ours", "golden"),
    [([1.0, 2.0], [1.0]), ([float("nan")], [1.0]), ([1.0], [float("nan")]), ([1e-9], [0.0]), ([[1.0]], [1.0])],
)
def test_shapes_nans_and_zeros_do_not_pass(ours: list, golden: list) -> None:
    assert not compare("x", ours, golden).ok
    assert not compare_exact("x", ours, golden).ok


def test_all_zero_and_empty_pass() -> None:
    assert compare("x", [0.0], [0.0]).ok
    assert compare("x", np.zeros((0, 2)), np.zeros((0, 2))).ok
    assert compare_exact("x", np.zeros(0), np.zeros(0)).ok


@given(st.lists(st.integers(-9, 9), min_size=1), st.data())
def test_exact_counts_the_entries_that_differ(golden: list[int], data: st.DataObject) -> None:
    ours = list(golden)
    ours[data.draw(st.integers(0, len(golden) - 1))] += 1
    assert compare_exact("x", golden, golden).ok
    check = compare_exact("x", ours, golden)
    assert not check.ok
    assert check.error == pytest.approx(1 / len(golden))
