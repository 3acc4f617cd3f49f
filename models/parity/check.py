"""A parity report: outputs that we compute against those that a golden file records, entry by entry.

Run: `worldline parity FILE.npz`. A family of models is one room beside this file and one line in FAMILIES.

Every entry of the file is accounted for. An entry that nothing reads as an input and nothing computes is a failed
check, and so is an output that the file should have and lacks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from models.parity.delta_iris import family as delta_iris
from models.parity.dreamer import family as dreamer
from models.parity.golden_file import GoldenFile, Tolerance
from models.parity.iris import family as iris
from models.parity.jowa import family as jowa
from models.parity.rem import family as rem
from models.parity.simulus import family as simulus
from models.parity.thesis import family as thesis

UNKNOWN = "nothing here reads or computes it"
MISSING = "the file lacks it"


Output = Tensor | np.ndarray
"""numbers, or an array of text"""


class Family(Protocol):
    """How a family of models is checked: a module with these two functions."""

    def outputs(self, golden: GoldenFile) -> Mapping[str, Output]:
        """outputs(golden) -> every output that the file should have, by entry, computed from its inputs alone"""
        ...

    def tolerance(self, golden: GoldenFile, name: str) -> float | Tolerance:
        """tolerance(golden, entry) -> the largest error of an entry of floats, relative if a number; 0: equal"""
        ...


FAMILIES: Mapping[str, Family] = {
    "jowa": jowa,
    "iris": iris,
    "rem": rem,
    "simulus": simulus,
    "thesis": thesis,
    "delta_iris": delta_iris,
    "wmlib": dreamer,
}
"""by the name that a file states in `meta/family`"""


@dataclass(frozen=True)
class Check:
    """The result for one entry of a golden file."""

    name: str
    error: float  # relative; where numbers must be equal, the share that is not; NaN where nothing was compared
    ok: bool
    note: str = ""  # why the entry failed where nothing was compared


def check(arrays: Mapping[str, np.ndarray]) -> list[Check]:
    """A check for every output that the file records, in its order, then for every one that is missing.

    arrays: the whole file, by entry. Everything runs in float32 on the CPU. Raises ValueError for an unknown family,
    and ValueError, KeyError or what torch raises where an input is missing or damaged.
    """
    golden = GoldenFile(arrays)
    if golden.family not in FAMILIES:
        raise ValueError(f"unknown family '{golden.family}'")
    family = FAMILIES[golden.family]
    outputs = family.outputs(golden)
    checks = []
    for name, recorded in arrays.items():
        if name in outputs:
            found = outputs[name]
            ours = found.detach().numpy() if isinstance(found, Tensor) else found
            tolerance = family.tolerance(golden, name) if ours.dtype.kind == "f" else 0.0
            one = compare(name, ours, recorded, tolerance) if tolerance else compare_exact(name, ours, recorded)
            checks.append(one)
        elif name not in golden.read:
            checks.append(Check(name, math.nan, False, UNKNOWN))
    return checks + [Check(name, math.nan, False, MISSING) for name in outputs if name not in arrays]


def compare(name: str, ours: ArrayLike, golden: ArrayLike, tolerance: float | Tolerance) -> Check:
    """Largest absolute difference over the largest absolute golden value; ok where all are within `tolerance`.

    Another shape fails, and so does what is no real number.
    """
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden)
    if ours.shape != golden.shape or golden.dtype.kind not in "biuf":
        return Check(name, math.inf, False)
    golden = golden.astype(np.float64)
    if isinstance(tolerance, Tolerance) and tolerance.nan_means_none:
        if not np.array_equal(none := np.isnan(golden), np.isnan(ours)):
            return Check(name, math.inf, False)
        ours, golden = np.where(none, 0.0, ours), np.where(none, 0.0, golden)
    differences = np.abs(ours - golden)
    difference, scale = float(differences.max(initial=0.0)), float(np.abs(golden).max(initial=0.0))
    error = 0.0 if difference == 0 else difference / scale if scale else math.inf
    if not isinstance(tolerance, Tolerance):
        return Check(name, error, error <= tolerance)  # a NaN compares as not ok
    return Check(name, error, bool((differences <= tolerance.allowed(scale)).all()))


def compare_exact(name: str, ours: ArrayLike, golden: ArrayLike) -> Check:
    """Every number must be equal; the error is the share of numbers that are not. Another shape fails."""
    ours, golden = np.asarray(ours), np.asarray(golden)
    if ours.shape != golden.shape:
        return Check(name, math.inf, False)
    error = float((ours != golden).mean()) if golden.size else 0.0
    return Check(name, error, error == 0)
