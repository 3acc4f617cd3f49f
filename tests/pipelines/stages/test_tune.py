"""The search for settings: all of them play the same episodes, none of which is reported, and the best one is used."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from pipelines.environments.rollout import Episode
from pipelines.errors import UsageError, WorldlineError
from pipelines.evaluation.player_settings import Chosen, GridConfig, PlayerSettings, SearchConfig
from pipelines.evaluation.session import selection_seeds
from pipelines.graph.make import run_config
from pipelines.graph.plan import Plan, Step
from pipelines.stages import evaluate, tune
from pipelines.stages.tune import TuneConfig, candidates
from tests import fakes
from tests.pipelines.conftest import TinyRun

GRID = GridConfig(contexts=(3, 1), widths=(2, 1), episodes=2, max_steps=3)

SMALL = GridConfig(contexts=(1, 2), episodes=2, max_steps=2)


def searching(tiny: TinyRun, grid: GridConfig = GRID, **changes: object) -> Plan:
    asked = {"planner": "beam", "beam_episodes": 0, "random_episodes": 1, "episodes": 2, "max_steps": 4} | changes
    recipe = tiny.experiment.recipe
    return Plan(recipe.but(tune=TuneConfig(grid=grid), evaluate=replace(recipe.evaluate, **asked)))


def search_of(plan: Plan) -> TuneConfig:
    config = plan.config(Step("tuned", "Breakout"))
    assert isinstance(config, TuneConfig)
    return config


def test_the_best_of_the_grid_plays_the_reported_episodes(tiny_copy: TinyRun) -> None:
    plan = searching(tiny_copy)
    found = run_config(search_of(plan), tiny_copy.store).artefact
    metrics = found.manifest.metrics
    grid = [(row["context"], row["width"], row["horizon"], row["leaf"]) for row in metrics["grid"]]
    assert grid == [(1, 1, 2, "max"), (3, 1, 2, "max"), (1, 2, 2, "max"), (3, 2, 2, "max")]
    assert metrics["best"]["mean"] == max(row["mean"] for row in metrics["grid"])
    episodes = pd.read_parquet(found.path("episodes.parquet"))
    assert set(episodes.groupby("planner").seed.apply(tuple)) == {selection_seeds(0, 2)}
    assert (episodes.length <= 3).all() and len(pd.read_csv(found.path("grid.csv"))) == 4
    assert found.manifest.counts["settings"] == 4 and found.manifest.roots[0]["protocol"] == "sticky"

    scores = run_config(plan.config(Step("scores", "Breakout")), tiny_copy.store).artefact
    assert str(found.ref) in {parent.ref for parent in scores.manifest.parents}
    best, settings = metrics["best"], scores.manifest.metrics["beam"]["settings"]
    assert {name: settings[name] for name in ("context", "width", "horizon", "leaf")} == {
        name: best[name] for name in ("context", "width", "horizon", "leaf")
    }
    reported = set(pd.read_parquet(scores.path("episodes.parquet")).seed)
    assert reported and not reported & set(metrics["seeds"])

    other = replace(plan.config(Step("scores", "Breakout")), planner="mcts")
    with pytest.raises(UsageError, match=r"were chosen for beam, not mcts: set evaluate\.planner=beam"):
        evaluate.run(other, tiny_copy.store)
    with pytest.raises(WorldlineError, match="holds no chosen settings"):
        Chosen.of(scores)


@pytest.mark.slow
def test_reported_seeds_give_way_where_a_search_spent_them(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = searching(tiny_copy, SMALL)
    config = plan.config(Step("scores", "Breakout"))
    clash = evaluate.reported_seeds(config.seed, 2)
    monkeypatch.setattr(tune, "selection_seeds", lambda seed, count: clash[:count])
    run_config(search_of(plan), tiny_copy.store)
    played = pd.read_parquet(evaluate.run(config, tiny_copy.store).artefact.path("episodes.parquet"))
    assert tuple(played[played.planner == "beam"].seed) == evaluate.reported_seeds(config.seed, 4)[2:]


def test_a_search_in_the_recipe_is_a_stage_before_the_scores(tiny: TinyRun) -> None:
    assert "tuned" not in tiny.plan.stages
    plan = searching(tiny)
    assert plan.stages[-2:] == ("tuned", "scores")
    assert plan.config(Step("tuned", "Breakout")).spec().ref in plan.config(Step("scores", "Breakout")).parents
    assert search_of(searching(tiny, replace(GRID, seed=1))).spec().key != search_of(plan).spec().key


def test_an_axis_that_is_left_empty_keeps_the_evaluations_own_value(tiny: TinyRun) -> None:
    grid = search_of(searching(tiny, GridConfig(widths=(1,)), search=SearchConfig(leaf="mean"))).grid
    assert (grid.contexts, grid.widths, grid.horizons, grid.leaves) == ((2,), (1,), (2,), ("mean",))
    greedy = search_of(searching(tiny, GridConfig(contexts=(4, 2)), planner="greedy"))
    assert [each.settings() for each in candidates(greedy)] == [
        {"context": 2, "epsilon": 0.001}, {"context": 4, "epsilon": 0.001},
    ]  # fmt: skip


def test_what_cannot_be_searched_is_refused_in_a_line(tiny_copy: TinyRun) -> None:
    for words, grid, changes in [
        ("Greedy play reads no width", GRID, {"planner": "greedy"}),
        ("A search serves one planner", GRID, {"planner": "greedy", "beam_episodes": 1}),
        ("A search serves one planner", GRID, {"settings": "jowa_40m", "context": 4}),
        ("Stage 'tuned' is not in recipe", GridConfig(), {}),
    ]:
        with pytest.raises(UsageError, match=words):
            search_of(searching(tiny_copy, grid, **changes))
    with pytest.raises(UsageError, match="context of 7 steps and a beam horizon of 2 is more than the 8 steps"):
        run_config(search_of(searching(tiny_copy, replace(GRID, contexts=(1, 7)))), tiny_copy.store)
    with pytest.raises(UsageError, match="A search for mcts with no widths"):
        TuneConfig(game="Pong", planner="mcts", grid=GridConfig(contexts=(1,), leaves=("max",)))
    with pytest.raises(UsageError, match=r"evaluate\.beam_episodes=0"):
        replace(tiny_copy.plan.config(Step("scores", "Breakout")), tuned=tiny_copy.made["scores"].ref, context=4)


def settings(context: int, width: int) -> PlayerSettings:
    return PlayerSettings("beam", 2, 0, context, 0.0, width, 2)


def episodes(*returns: float) -> list[Episode]:
    return [Episode(number, number, score, 0.0, 1, "terminated") for number, score in enumerate(returns)]


def test_how_far_a_setting_is_behind_is_measured_on_equal_seeds() -> None:
    rows = tune.grid([settings(1, 1), settings(1, 2)], [episodes(1.0, 5.0), episodes(2.0, 7.0)])
    assert [(row["mean"], row["behind"], row["behind_error"]) for row in rows] == [(3.0, 1.5, 0.5), (4.5, 0.0, 0.0)]
    (alone,) = tune.grid([settings(1, 1)], [episodes(1.0)])
    assert alone["behind_error"] is None


KILLED = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from pipelines.evaluation.session import EpisodeLog
from pipelines.graph.experiment import find
from pipelines.store.store import Store
from tests.pipelines.stages.test_tune import SMALL, search_of, searching

home, kept = Path(sys.argv[1]), int(sys.argv[2])
add = EpisodeLog.add

def add_and_die(log, *rest):
    global kept
    add(log, *rest)
    kept -= 1
    if not kept:
        os.kill(os.getpid(), signal.SIGKILL)

EpisodeLog.add = add_and_die
from pipelines.stages import tune
tiny = SimpleNamespace(experiment=find(home / "experiments", "tiny"))
tune.run(search_of(searching(tiny, SMALL)), Store(home / "store"))
"""


@pytest.mark.slow
def test_a_killed_search_goes_on_with_what_is_missing(tiny_copy: TinyRun) -> None:
    config = search_of(searching(tiny_copy, SMALL))
    whole = tune.run(config, tiny_copy.store).artefact
    wanted = whole.manifest.metrics
    shutil.rmtree(whole.folder)
    code, _, err = fakes.finish(fakes.start(KILLED, tiny_copy.home, 3), timeout=100)
    assert code == -9, err
    logs = sorted((tiny_copy.store.root / ".scratch").rglob("episodes.jsonl"))
    assert sum(len(log.read_text().splitlines()) for log in logs) == 3
    with logs[0].open() as log:
        assert json.loads(log.readline())["settings"]["context"] == 1
    assert tune.run(config, tiny_copy.store).artefact.manifest.metrics == wanted
