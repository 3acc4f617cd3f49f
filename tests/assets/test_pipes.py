"""Training through Dagster Pipes in real processes: observed as it runs, one line when it fails, gone when killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil
import pytest
import torch

from assets.instance import open_instance
from assets.pipes import training_step
from assets.pipes_child import newest
from assets.resources import Installation
from pipelines.graph.config_io import override
from pipelines.graph.experiment import register
from pipelines.graph.plan import Step
from pipelines.home import open_store
from pipelines.store.files import locked_now
from pipelines.training.distributed import gpus
from tests.fakes import ROOT, finish, wait_for
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures

STAGE = "world_action_model"
PATIENCE = 600  # seconds; a crowded machine is no failure


@pytest.fixture
def ours(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:  # noqa: F811
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tiny_copy


def start(experiment: str, ranks: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "assets.launch", "materialize", "--experiment", experiment, "--until", STAGE]
    return subprocess.Popen(
        [*command, "--only", STAGE],
        cwd=ROOT,
        env=os.environ | {"WORLDLINE_RANKS": str(ranks), "WORLDLINE_QUIET": "1", "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def longer(ours: TinyRun, steps: int) -> str:
    recipe = ours.experiment.recipe
    for change in (f"phases.world_action.steps={steps}", "loop.save_seconds=0", "loop.log_every=1"):
        recipe = override(recipe, f"train.{change}")
    return register(ours.home / "experiments", "long", recipe).key


@pytest.fixture(scope="module")
def straight(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:  # noqa: F811
    """The weights of runs that nobody disturbs, by number of ranks."""
    found = {}
    for ranks in (1, 2):
        ours = tiny.copy(tmp_path_factory.mktemp("straight") / "home")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WORLDLINE_HOME", str(ours.home))
            key = longer(ours, 150)
            code, _, err = finish(start(key, ranks), PATIENCE)
            assert code == 0, err
            found[ranks] = weights(key)
    return found


def weights(key: str) -> bytes:
    store = open_store()
    return store.open(store.resolve(f"{STAGE}/{key}")).path("model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_run_is_observed_and_its_materialisation_is_complete(ours: TinyRun) -> None:
    key = longer(ours, 60)
    code, out, err = finish(start(key), PATIENCE)
    assert code == 0, err
    assert out.endswith("1 made, 0 already there.\n")
    made = open_store().open(open_store().resolve(f"{STAGE}/{key}"))
    with open_instance() as instance:
        asset = dg.AssetKey(STAGE)
        [event] = instance.fetch_materializations(asset, limit=5).records
        observed = instance.fetch_observations(asset, limit=50).records
        checks = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(asset, "sees"), 5)
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["address"].value == str(made.ref)
    assert event.asset_materialization.metadata["skipped"].value is False
    assert event.asset_materialization.tags is not None
    assert event.asset_materialization.tags["dagster/data_version"] == made.digest
    assert len(checks) == 1
    assert observed, "the first row is told at once"
    seen = observed[-1].asset_observation
    assert seen is not None and seen.partition == key
    assert {"step", "td", "cql", "observations"} <= set(seen.metadata)
    assert 0 < float(str(seen.metadata["step"].value)) <= 60
    code, out, _ = finish(start(key), 60)
    assert code == 0 and out.endswith("Everything was already there.\n")


@pytest.mark.slow
def test_a_failure_is_one_line(ours: TinyRun) -> None:
    shutil.rmtree(ours.made[STAGE].folder)
    shutil.rmtree(ours.made["tokens"].folder)
    code, out, err = finish(start("tiny"), PATIENCE)
    assert (code, out) == (1, f"[1/1] {STAGE} failed\n0 made, 0 already there.\n")
    assert err.startswith(f"{STAGE} failed: tokens/Breakout/") and "make it first" in err and err.count("\n") == 1


def test_a_child_may_have_the_gpu_on_which_its_parent_encoded(ours: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one GPU each would wait for the other."""
    found = []

    def child(*_: object, **__: object) -> None:
        with locked_now(gpus.folder() / "0.lock") as free:
            found.append(free)
        raise RuntimeError("it trains")

    monkeypatch.setattr(gpus, "visible", lambda: ["0"])
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(dg.PipesSubprocessClient, "run", child)
    gpus.keep_one()
    with pytest.raises(dg.Failure, match="it trains"):
        training_step(dg.build_asset_context(), Installation(), longer(ours, 60), Step(STAGE))
    assert found == [True]


@pytest.mark.timeout(1800)
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_leaves_nothing_behind_and_resumes(
    ours: TinyRun, number: signal.Signals, ranks: int, straight: dict[int, bytes]
) -> None:
    key = longer(ours, 150)
    process = start(key, ranks)
    wait_for(lambda: bool(list(ours.home.rglob(".scratch/*/state.pt"))), PATIENCE)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= (1 if ranks == 1 else 3)
    os.kill(process.pid, number)
    finish(process, PATIENCE)
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family), PATIENCE)
    assert list(ours.home.rglob(".scratch/*/state.pt"))
    code, out, err = finish(start(key, ranks), PATIENCE)
    assert code == 0 and "1 made" in out, err
    rows = (open_store().open(open_store().resolve(f"{STAGE}/{key}")).path("metrics.jsonl")).read_text().splitlines()
    assert len(rows) == 150
    assert weights(key) == straight[ranks]


def test_the_newest_row_is_the_last_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert newest(path) == ""
    for text, line in (("", ""), ('{"a": 1', ""), ("one\n", "one"), ("one\ntwo\nthr", "two")):
        path.write_text(text)
        assert newest(path) == line
