"""The graph's benchmark measures real processes over a store that stands."""

from pathlib import Path

import pytest

from pipelines.errors import UsageError, WorldlineError
from pipelines.store.lineage import flat, walk
from pipelines.store.store import Store
from pipelines.tools.bench.graph import QUICK, Figure, _taken, fill, run, table


@pytest.mark.slow
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
    assert "| draining | 9.00 |  |  |" in table([Figure("backfill", "draining", 9.0)])


def test_an_unknown_figure_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'backfil'"):
        run(tmp_path, QUICK, "backfil")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(WorldlineError, match="cannot be measured"):
        _taken(tmp_path, 1, "lineage", "nothing/at/all")


@pytest.mark.slow
def test_all_figures_are_measured(tmp_path: Path) -> None:
    figures = run(tmp_path, QUICK)
    assert [each.name for each in figures] == ["load", "list", "lineage", "partition"]
    assert all(0 < each.seconds < 60 for each in figures)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_daemon_drains_a_backfill(tmp_path: Path) -> None:
    drained, in_turn, bare = run(tmp_path, QUICK, "backfill")
    assert 1 <= drained.more["beside"] <= 3  # the limit of a new home for backfills
    assert drained.more["wall"] > 0 and in_turn.seconds > 0 and bare.seconds > 0
