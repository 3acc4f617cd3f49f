"""The last page of the demo: everything in it stands in a manifest."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from pipelines.errors import WorldlineError
from pipelines.graph import summary
from pipelines.graph.summary import summarise
from pipelines.progress import printer
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.store import Store
from tests.fakes import spec
from tests.pipelines.conftest import TinyRun


@pytest.fixture
def page(tiny: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    monkeypatch.setenv("COLUMNS", "240")
    summarise([tiny.experiment], tiny.store)
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
    assert "greedy takes what the agent holds best" in page and "beam looks ahead in the world model" in page
    assert "'worldline diagnose' says which it is" in page
    assert "cut at 3 steps" in next(line for line in page.splitlines() if " beam " in line)


def test_sight_losses_report_and_what_to_try_next(tiny: TinyRun, page: str) -> None:
    assert "Breakout (pretrained, on frames it learned from)" in page
    assert "Breakout (world_action_model, on frames it learned from)" in page
    (losses,) = (line for line in page.splitlines() if line.startswith("Last losses"))
    for stage in ("pretrained", "world_action_model"):
        found = tiny.made[stage].manifest.metrics["losses"]
        told = [f"{name} {value:.3g}" for name, value in found.items() if not name.startswith("grad_norm")]
        assert told and f"{stage}: {', '.join(told)}" in losses
    assert "grad_norm" not in losses
    assert f"Report       {tiny.made['leaderboard'].path('index.html')}" in page
    assert "worldline ui" in page
    assert f"worldline lineage scores/{tiny.experiment.key}/Breakout --verify" in page


def test_an_unfinished_experiment_has_no_summary(tiny: TinyRun, store: Store) -> None:
    with pytest.raises(WorldlineError, match=f"is called 'scores/{tiny.experiment.key}/Breakout'"):
        summarise([tiny.experiment], store)


def test_experiments_made_together_stand_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, store: Store
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    made = {f"{name}-{seed}": _scored(store, f"{name}-{seed}", returns) for name, seed, returns in (
        ("with", 0, (1.0, 3.0)), ("with", 1, (2.0, 6.0)), ("without", 0, (0.0, 1.0)),
    )}  # fmt: skip
    monkeypatch.setattr(summary, "_artefacts", lambda experiment, store: {"scores": [made[experiment.key]]})
    experiments: Any = [
        SimpleNamespace(key=key, recipe=SimpleNamespace(name=key.partition("-")[0], games=("reach",))) for key in made
    ]
    printer().print(summary._beside(experiments, store))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1][:4] == ["with", "reach", "2", "50.0"] and "3.0" in rows[1] and rows[1][-1] == "0.5"
    assert rows[2][:4] == ["without", "reach", "1", "0.0"] and "0.5" in rows[2]


def _scored(store: Store, name: str, returns: tuple[float, ...]) -> Artefact:
    """Scores of episodes, of which those with a return above 2 are successes."""

    def build(draft: Draft) -> None:
        rows = [{"planner": "greedy", "return": each, "achievement_success": int(each > 2)} for each in returns]
        pd.DataFrame(rows).to_parquet(draft.path("episodes.parquet"))
        draft.metrics |= {"greedy": {"mean": 0.0}, "random": {"mean": 0.5}}

    return store.produce(spec("scores", "reach", name=name), build).artefact
