"""The last page of the demo: everything in it stands in a manifest."""

import pytest

from pipelines.errors import WorldlineError
from pipelines.graph.summary import summarise
from pipelines.store.store import Store
from tests.pipelines.conftest import TinyRun


@pytest.fixture
def page(tiny: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    monkeypatch.setenv("COLUMNS", "240")
    summarise(tiny.experiment, tiny.store)
    return capsys.readouterr().out


def test_stages_with_counts_and_bytes(tiny: TinyRun, page: str) -> None:
    for stage, artefact in tiny.made.items():
        if stage != "leaderboard":
            row = next(line for line in page.splitlines() if line.lstrip().startswith(f"{stage} "))
            assert artefact.manifest.subject in row
            assert all(f"{value:,} {name}" in row for name, value in artefact.manifest.counts.items())
            assert f"{artefact.manifest.total_bytes / 1e6:,.1f}" in row


def test_agents_next_to_random_and_behaviour(tiny: TinyRun, page: str) -> None:
    metrics = tiny.made["scores"].manifest.metrics
    greedy = next(line for line in page.splitlines() if " greedy " in line)
    assert f"{metrics['greedy']['mean']:.1f} ± {metrics['greedy']['std']:.1f}" in greedy
    assert f"{metrics['random']['mean']:.1f}" in greedy
    assert "cut at 3 steps" in next(line for line in page.splitlines() if " beam " in line)


def test_sight_losses_report_and_what_to_try_next(tiny: TinyRun, page: str) -> None:
    assert "Breakout (pretrained, on frames it learned from)" in page
    assert "Breakout (world_action_model, on frames it learned from)" in page
    assert "pretrained: reconstruction" in page
    assert f"Report       {tiny.made['leaderboard'].path('index.html')}" in page
    assert "worldline ui" in page
    assert f"worldline lineage scores/{tiny.experiment.key}/Breakout --verify" in page


def test_an_unfinished_experiment_has_no_summary(tiny: TinyRun, store: Store) -> None:
    with pytest.raises(WorldlineError, match=f"is called 'scores/{tiny.experiment.key}/Breakout'"):
        summarise(tiny.experiment, store)
