import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.parity import check as parity
from models.parity.check import MISSING, UNKNOWN, check, compare, compare_exact
from models.parity.golden_file import GoldenFile, Tolerance


def test_error_is_relative_to_the_largest_golden_value() -> None:
    one = compare("x", [1.0, -4.0], [1.0, -3.0], 0.3)
    assert one.error == pytest.approx(1 / 3)
    assert not one.ok and compare("x", [1.0, -4.0], [1.0, -3.0], 0.4).ok
    assert compare("x", [10.0, 0.0005], [10.0, 0.0], 1e-4).ok  # small beside the 10


@pytest.mark.parametrize(
    ("ours", "golden"),
    [([1.0, 2.0], [1.0]), ([float("nan")], [1.0]), ([1.0], [float("nan")]), ([1e-9], [0.0]), ([[1.0]], [1.0])],
)
def test_shapes_nans_and_zeros_do_not_pass(ours: list, golden: list) -> None:
    assert not compare("x", ours, golden, 1e-4).ok
    assert not compare_exact("x", ours, golden).ok


def test_a_tolerance_may_be_absolute_and_another_for_each_number() -> None:
    tolerance = Tolerance(relative=0.1, absolute=(0.0, 1.0))
    assert compare("x", [2.1, 1.1], [2.0, 0.0], tolerance).ok and not compare("x", [2.3, 0.0], [2.0, 0.0], tolerance).ok
    assert not compare("x", [2.0, 1.3], [2.0, 0.0], tolerance).ok
    assert not compare("x", [float("nan"), 0.0], [2.0, 0.0], tolerance).ok


def test_all_zero_and_empty_pass() -> None:
    assert compare("x", [0.0], [0.0], 1e-4).ok
    assert compare("x", np.zeros((0, 2)), np.zeros((0, 2)), 1e-4).ok
    assert compare_exact("x", np.zeros(0), np.zeros(0)).ok


def test_what_is_no_number_does_not_pass() -> None:
    assert not compare("x", [1.0], np.array(["1.0"]), 1e-4).ok
    assert not compare_exact("x", [1], np.array(["1"])).ok


@given(st.lists(st.integers(-9, 9), min_size=1), st.data())
def test_exact_counts_the_numbers_that_differ(golden: list[int], data: st.DataObject) -> None:
    ours = list(golden)
    ours[data.draw(st.integers(0, len(golden) - 1))] += 1
    assert compare_exact("x", golden, golden).ok
    one = compare_exact("x", ours, golden)
    assert not one.ok
    assert one.error == pytest.approx(1 / len(golden))


class Doubling:
    """A family whose model doubles: `double` of `batch/x`, and which of them are positive."""

    def outputs(self, golden: GoldenFile) -> Mapping[str, torch.Tensor]:
        x = golden.tensor("batch/x")
        return {"double": 2 * x, "positive": x > 0, "exact/double": 2 * x}

    def tolerance(self, golden: GoldenFile, name: str) -> float:
        return 0.0 if name.startswith("exact/") else 0.1


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    monkeypatch.setattr(parity, "FAMILIES", {"doubling": Doubling()})
    x = np.array([1.0, -2.0], np.float32)
    meta = {"meta/family": np.array("doubling"), "meta/config": np.array("{}"), "meta/source": np.array("a test")}
    return {**meta, "batch/x": x, "double": 2 * x, "positive": x > 0, "exact/double": 2 * x}


def test_a_family_is_asked_for_every_output_and_its_tolerance(arrays: dict[str, np.ndarray]) -> None:
    assert [one.name for one in check(arrays) if one.ok] == ["double", "positive", "exact/double"]
    off = np.array([2.1, -4.0], np.float32)
    checks = check(arrays | {"double": off, "exact/double": off, "positive": np.array([True, True])})
    assert [(one.name, one.ok) for one in checks] == [("double", True), ("positive", False), ("exact/double", False)]
    assert checks[1].error == checks[2].error == 0.5


def test_every_entry_is_accounted_for(arrays: dict[str, np.ndarray]) -> None:
    del arrays["positive"]
    strangers = {name: np.zeros(1) for name in ("batch/y", "weights/a", "draws/b", "triple", "x")}
    checks = {one.name: one for one in check(arrays | strangers)}
    assert {name for name, one in checks.items() if one.note == UNKNOWN} == strangers.keys()
    assert [name for name, one in checks.items() if one.note == MISSING] == ["positive"]
    assert [one.ok for one in checks.values()] == [not one.note for one in checks.values()]
    assert math.isnan(checks["positive"].error)


def test_an_unknown_family_is_named(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="unknown family 'tripling'"):
        check(arrays | {"meta/family": np.array("tripling")})
