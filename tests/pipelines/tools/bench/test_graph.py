"""The graph's benchmark measures real processes over a store that stands."""

from pathlib import Path

import pytest

from pipelines.errors import WorldlineError
from pipelines.store.lineage import flat, walk
from pipelines.store.store import Store
from pipelines.tools.bench.graph import QUICK, Figure, _taken, fill, run, table


def test_the_store_is_sound_and_filled_once(tmp_path: Path) -> None:
    board = fill(tmp_path, QUICK)
    store = Store(tmp_path / "store")
    found = flat(walk(store, board))
    assert len(found) == 1 + QUICK.scores + QUICK.experiments + 2 and not any(node.fault for node in found)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("manifest.json")}
    assert fill(tmp_path, QUICK) == board
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("manifest.json")}


def test_a_figure_above_its_aim_is_told() -> None:
    text = table([Figure("load", "loading", 1.0, 3.0), Figure("list", "listing", 3.5, 3.0)])
    assert "| loading | 1.00 | 3 | yes |" in text and "| listing | 3.50 | 3 | NO |" in text


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(WorldlineError, match="cannot be measured"):
        _taken(tmp_path, 1, "lineage", "nothing/at/all")


@pytest.mark.slow
def test_all_figures_are_measured(tmp_path: Path) -> None:
    figures = run(tmp_path, QUICK)
    assert [each.name for each in figures] == ["load", "list", "lineage", "partition"]
    assert all(0 < each.seconds < 60 for each in figures)
