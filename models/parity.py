"""One line of a parity report: our numbers against recorded ones of another implementation."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-4  # relative
UNKNOWN = "nothing of this name is known here"


@dataclass(frozen=True)
class Check:
    """Result of comparing one entry of a golden file. `covered` is False for an entry that nothing here reproduces."""

    name: str
    error: float  # relative; for exact comparisons the share of entries that differ
    ok: bool
    covered: bool = True
    note: str = ""  # how the numbers were had, or why nothing covers the entry


def uncovered(names: Iterable[str], checks: Iterable[Check], inputs: str) -> list[Check]:
    """A check for each name that no check bears and that does not match `inputs`: nothing is left out in silence."""
    known = {one.name for one in checks}
    left = [name for name in names if name not in known and not re.fullmatch(inputs, name)]
    return [Check(name, float("nan"), ok=False, covered=False, note=UNKNOWN) for name in left]


def compare(name: str, ours: ArrayLike, golden: ArrayLike, tol: float = TOLERANCE) -> Check:
    """Largest absolute difference over the largest absolute golden value; ok within `tol`.

    Another shape fails, and so does what is no real number.
    """
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden)
    if ours.shape != golden.shape or golden.dtype.kind not in "biuf":
        return Check(name, float("inf"), False)
    golden = golden.astype(np.float64)
    difference = float(np.abs(ours - golden).max(initial=0.0))
    scale = float(np.abs(golden).max(initial=0.0))
    error = 0.0 if difference == 0 else difference / scale if scale else float("inf")
    return Check(name, error, error <= tol)  # a NaN compares as not ok


def compare_truncated(name: str, ours: ArrayLike, golden: ArrayLike, tol: float = TOLERANCE) -> Check:
    """As `compare`, where golden numbers were cut to whole ones: each stands for all of [golden, golden + 1)."""
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden)
    if ours.shape != golden.shape or golden.dtype.kind not in "biuf":
        return Check(name, float("inf"), False)
    golden = golden.astype(np.float64)
    return compare(name, golden + (ours - np.clip(ours, golden, golden + 1)), golden, tol)


def compare_exact(name: str, ours: ArrayLike, golden: ArrayLike) -> Check:
    """Every entry must be equal; the error is the share of entries that are not. Another shape fails."""
    ours, golden = np.asarray(ours), np.asarray(golden)
    if ours.shape != golden.shape:
        return Check(name, float("inf"), False)
    error = float((ours != golden).mean()) if golden.size else 0.0
    return Check(name, error, error == 0)
