"""The benchmark of Crafter runs, and leaves the package's noise as it found it."""

from crafter import worldgen

from pipelines.tools.bench.crafter import QUICK, run
from pipelines.tools.bench.row import table


def test_it_measures_play_and_worlds_and_leaves_no_trace() -> None:
    before = worldgen.opensimplex
    rows = run(QUICK)
    assert [row.name for row in rows] == ["random play, 1 environment", "random play, 2 environments", "worlds drawn"]
    assert all(row.ratio > 0 and row.cpu_ratio for row in rows) and "worlds/s" in table(rows)
    assert worldgen.opensimplex is before
