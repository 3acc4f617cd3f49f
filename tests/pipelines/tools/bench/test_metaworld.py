"""The benchmark of Meta-world's frames runs and tells what it compared."""

import pytest

from pipelines.tools.bench.row import table


@pytest.mark.slow
def test_it_measures_a_way_of_drawing_and_what_else_an_episode_costs(metaworld_here: str) -> None:
    from pipelines.tools.bench.metaworld import QUICK, lines, run

    (row,) = run(QUICK, only="metaworld_fast")
    assert row.ratio > 1 and row.cpu_ratio and "as the package draws" in table([row])
    assert "of 255 a pixel" in row.notes[0]
    said = lines(QUICK)
    assert said[0] == f"drawn by {metaworld_here}" and "steps/s by CPU" in said[1] and len(said) == 4
