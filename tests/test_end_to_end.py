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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment, subprocess.CompletedProcess[str]]:
    """One run of the miniature recipe: home, experiment, what the program said."""
    home = tmp_path_factory.mktemp("house")
    experiment = register(home / "experiments", "mini", recipe("mini"))
    return home, experiment, _launch(home, "materialize", "--experiment", "mini")


def test_every_step_is_made(made: tuple[Path, Experiment, subprocess.CompletedProcess[str]]) -> None:
    home, experiment, done = made
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


def test_stages_record_the_checks_that_they_declare(
    made: tuple[Path, Experiment, subprocess.CompletedProcess[str]],
) -> None:
    home, experiment, _ = made
    store, plan = Store(home / "store"), Plan(experiment.recipe)
    for step in plan.steps():
        config = plan.config(step)
        recorded = [check.name for check in store.open(config.spec().ref).manifest.checks]
        assert sorted(recorded) == sorted(config.CHECKS), step


def test_lineage_reaches_the_rom(made: tuple[Path, Experiment, subprocess.CompletedProcess[str]]) -> None:
    home, experiment, _ = made
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


def test_dagster_knows_every_version(
    made: tuple[Path, Experiment, subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _, _ = made
    monkeypatch.setenv("WORLDLINE_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    digests = {artefact.ref.stage: artefact.digest for artefact in Store(home / "store").artefacts()}
    with open_instance() as instance:
        keys = defs.resolve_asset_graph().get_all_asset_keys()
        others = {"imported", "finetuned", "tuned"}  # not of this recipe
        assert {key.to_user_string() for key in keys} - set(digests) == others
        for key in [key for key in keys if key.to_user_string() in digests]:
            [record] = instance.fetch_materializations(key, limit=1).records
            assert record.asset_materialization is not None
            assert record.asset_materialization.tags is not None
            assert record.asset_materialization.tags["dagster/data_version"] == digests[key.to_user_string()]
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}


def test_a_second_run_finds_everything_and_a_flipped_byte_stops_it(
    made: tuple[Path, Experiment, subprocess.CompletedProcess[str]],
) -> None:
    home, experiment, _ = made
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
