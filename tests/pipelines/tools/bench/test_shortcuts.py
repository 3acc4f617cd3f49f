import pytest

from pipelines.tools.bench.shortcuts import QUICK, run


@pytest.mark.slow
def test_every_shortcut_is_measured_in_both_types() -> None:
    rows = run(QUICK)
    assert len(rows) == 2 * (4 + 2 + 3)
    assert len({row.name for row in rows}) == len(rows) and all(row.ratio > 0 and row.aim is None for row in rows)
