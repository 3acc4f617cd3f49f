"""The benchmark of Crafter runs, and leaves the package's noise as it found it."""

import pytest
from crafter import worldgen

from pipelines.tools.bench.crafter import QUICK, run
from pipelines.tools.bench.row import table


@pytest.mark.slow
def test_it_measures_worlds_and_leaves_no_trace() -> None:
    before = worldgen.opensimplex
    (row,) = run(QUICK, only="worlds")
    assert row.ratio > 1 and row.cpu_ratio and "worlds/s" in table([row])
    assert worldgen.opensimplex is before
