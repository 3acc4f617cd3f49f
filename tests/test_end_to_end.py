"""Everything at once: the recipe `mini` from play to leaderboard through Dagster, twice, then one flipped byte."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import defs
from assets.instance import open_instance
from pipelines.graph.experiment import Experiment, register
from pipelines.graph.plan import Plan
from pipelines.recipes.registry import recipe
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from tests.fakes import ROOT, flip_byte

STEPS = 9


def _launch(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WORLDLINE_HOME": str(home), "WORLDLINE_STORAGE": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "assets.launch", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)


def test_mini_from_play_to_leaderboard_twice_and_a_flipped_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run, looked at from all sides: it is long, and a fixture would make it once a worker."""
    experiment = register(tmp_path / "experiments", "mini", recipe("mini"))
    done = _launch(tmp_path, "materialize", "--experiment", "mini")
    _every_step_is_made(tmp_path, experiment, done)
    _stages_record_the_checks_that_they_declare(tmp_path, experiment)
    _lineage_reaches_the_rom(tmp_path, experiment)
    with monkeypatch.context() as patch:
        _dagster_knows_every_version(tmp_path, patch)
    _a_second_run_finds_everything_and_a_flipped_byte_stops_it(tmp_path, experiment)


def _every_step_is_made(home: Path, experiment: Experiment, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": made in ") == STEPS
    assert done.stdout.splitlines()[-1] == f"{STEPS} made, 0 already there."
    store = Store(home / "store")
    plan = Plan(experiment.recipe)
    for step in plan.steps():
        assert store.open(plan.config(step).spec().ref), step
    page = store.open(store.resolve("leaderboard/all")).path("index.html").read_text()
    assert experiment.key in page
    assert "Pong" in page


def _stages_record_the_checks_that_they_declare(home: Path, experiment: Experiment) -> None:
    store, plan = Store(home / "store"), Plan(experiment.recipe)
    for step in plan.steps():
        config = plan.config(step)
        recorded = {check.name for check in store.open(config.spec().ref).manifest.checks}
        assert {*config.CHECKS} - {*config.OF_SOME} <= recorded <= {*config.CHECKS}, step


def _lineage_reaches_the_rom(home: Path, experiment: Experiment) -> None:
    store = Store(home / "store")
    seen, waiting = set(), [store.resolve(f"scores/{experiment.key}/Pong")]
    roots = []
    while waiting:
        artefact = store.open(waiting.pop())
        seen.add(artefact.ref.stage)
        waiting += [Ref.parse(parent.ref) for parent in artefact.manifest.parents]
        roots += artefact.manifest.roots
    assert seen == {step.stage for step in Plan(experiment.recipe).steps()}
    assert {root["game"] for root in roots} == {"Pong"}
    assert all(len(root["rom_md5"]) == 32 for root in roots)


def _dagster_knows_every_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    digests = {artefact.ref.stage: artefact.digest for artefact in Store(home / "store").artefacts()}
    with open_instance() as instance:
        keys = defs.resolve_asset_graph().get_all_asset_keys()
        others = {
            "imported",
            "imported_trajectories",
            "imported_shards",
            "finetuned",
            "world_model_agent",
            "tuned",
            "recordings",
            "videos",
            "video_pretrained",
            "imported_world",
            "diagnosed",
        }  # not of this recipe
        assert {key.to_user_string() for key in keys} - set(digests) == others
        for key in [key for key in keys if key.to_user_string() in digests]:
            [record] = instance.fetch_materializations(key, limit=1).records
            assert record.asset_materialization is not None
            assert record.asset_materialization.tags is not None
            assert record.asset_materialization.tags["dagster/data_version"] == digests[key.to_user_string()]
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}


def _a_second_run_finds_everything_and_a_flipped_byte_stops_it(home: Path, experiment: Experiment) -> None:
    again = _launch(home, "materialize", "--experiment", experiment.key)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == "Everything was already there."
    store = Store(home / "store")
    damaged = store.open(store.resolve("trajectories/Pong")).path("trajectories.h5")
    flip_byte(damaged, at=2_000)
    stopped = _launch(home, "materialize", "--experiment", experiment.key, "--only", "trajectories")
    assert stopped.returncode == 1
    assert f"{damaged}: sha256 differs from the manifest" in stopped.stderr
    assert stopped.stderr.count("\n") == 1
