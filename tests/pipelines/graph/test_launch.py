"""Real ranks, started by the command line: same artefact, one error line, and none is left when the agent goes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipelines.cli import run
from pipelines.errors import UsageError
from pipelines.graph.config_io import override
from pipelines.graph.experiment import Experiment, find, register
from pipelines.graph.launch import Job, launch
from pipelines.recipes.registry import recipe
from pipelines.store.store import Store
from tests.fakes import ROOT, finish, wait_for
from tests.pipelines.conftest import TinyRun

PATIENCE = 600  # seconds; a crowded machine is no failure


def start(home: Path, *arguments: str, quiet: bool = True, by: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    environment = os.environ | {"WORLDLINE_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"WORLDLINE_QUIET": "1" if quiet else ""}
    environment.pop("WORLDLINE_STORAGE", None)
    command = [sys.executable, *by, "-m", "pipelines.cli", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def long_experiment(ours: TinyRun) -> Experiment:
    """Some seconds of training after the tiny run's own pretraining."""
    recipe = ours.experiment.recipe
    for change in ("phases.world_action.steps=150", "loop.save_seconds=0", "loop.log_every=1"):
        recipe = override(recipe, f"train.{change}")
    return register(ours.home / "experiments", "long", recipe)


def weights(home: Path) -> bytes:
    """Those that the long experiment ended with."""
    store = Store(home / "store")
    return (
        store.open(store.resolve(f"world_action_model/{find(home / 'experiments', 'long').key}"))
        .path("model.safetensors")
        .read_bytes()
    )


@pytest.fixture(scope="module")
def straight(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run on two ranks that nobody disturbs."""
    ours = tiny.copy(tmp_path_factory.mktemp("straight") / "home")
    code, _, err = finish(start(ours.home, "train", long_experiment(ours).key, "--ranks", "2"), PATIENCE)
    assert code == 0, err
    return weights(ours.home)


def states(home: Path) -> list[Path]:
    return list(home.rglob(".scratch/*/state.pt"))


@pytest.mark.slow
def test_two_ranks_make_what_one_makes(tiny_copy: TinyRun) -> None:
    alone = tiny_copy.made["world_action_model"]
    shutil.rmtree(alone.folder)
    code, out, err = finish(start(tiny_copy.home, "train", "tiny", "--ranks", "2"), PATIENCE)
    assert code == 0, err
    assert out.startswith(f"{alone.ref}: made in ") and out.count("made in") == 1
    made = tiny_copy.store.open(alone.ref)
    before, after = alone.manifest.metrics["losses"], made.manifest.metrics["losses"]
    assert before.keys() == after.keys()
    # Dropout draws other numbers on each rank; without it they agree to 1e-5 (tests of training).
    assert after == {name: pytest.approx(value, rel=2e-2, abs=1e-3) for name, value in before.items()}
    again = finish(start(tiny_copy.home, "train", "tiny", "--ranks", "2"), 60)
    assert again[0] == 0 and str(alone.ref) in again[1]


@pytest.mark.slow
def test_the_first_error_is_shown_once(tiny_copy: TinyRun) -> None:
    shutil.rmtree(tiny_copy.made["world_action_model"].folder)
    shutil.rmtree(tiny_copy.made["tokens"].folder)
    code, out, err = finish(start(tiny_copy.home, "train", "tiny", "--ranks", "2"), PATIENCE)
    assert (code, out) == (1, "")
    assert err.startswith("tokens/Breakout/") and "is not in the store" in err and err.count("\n") == 1


@pytest.mark.timeout(1800)
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_no_rank_outlives_the_command_and_the_next_one_resumes(
    tiny_copy: TinyRun, number: signal.Signals, straight: bytes
) -> None:
    experiment = long_experiment(tiny_copy)
    process = start(tiny_copy.home, "train", experiment.key, "--ranks", "2")
    wait_for(lambda: bool(states(tiny_copy.home)), PATIENCE)
    ranks = psutil.Process(process.pid).children(recursive=True)
    assert len([rank for rank in ranks if "pipelines.graph.launch" in " ".join(rank.cmdline())]) == 2
    sockets = [each for one in (psutil.Process(process.pid), *ranks) for each in one.net_connections("tcp")]
    assert {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    os.kill(process.pid, number)
    finish(process, PATIENCE)
    wait_for(lambda: not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks), PATIENCE)
    assert states(tiny_copy.home)
    code, out, err = finish(start(tiny_copy.home, "train", experiment.key, "--ranks", "2", quiet=False), PATIENCE)
    assert code == 0 and "world_action_model/" in out, err
    assert "Resuming after step" in err
    assert weights(tiny_copy.home) == straight


@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_no_rank_outlives_a_torchrun_that_is_killed(tiny_copy: TinyRun) -> None:
    experiment = long_experiment(tiny_copy)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start(tiny_copy.home, "train", experiment.key, by=torchrun)
    wait_for(lambda: bool(states(tiny_copy.home)), PATIENCE)
    ranks = psutil.Process(process.pid).children()
    assert len(ranks) == 2
    process.kill()
    finish(process, PATIENCE)
    wait_for(lambda: not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks), PATIENCE)
    assert states(tiny_copy.home)


def test_bad_requests_are_one_line(
    tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    assert run(["train", "tiny", "--ranks", "0"]) == 2
    assert "Training on 0 ranks is impossible" in capsys.readouterr().err
    many = register(tiny_copy.home / "experiments", "other", override(tiny_copy.experiment.recipe, "seed=7"))
    assert run(["pretrain", many.key, "--ranks", "99999999"]) == 2  # before so many processes are started
    assert "for 99999999 ranks with 1 parts each: take fewer ranks" in capsys.readouterr().err
    robot = register(tiny_copy.home / "experiments", "robot", recipe("dreamerv2_mini"))
    assert run(["learn", robot.key, "--ranks", "2"]) == 2
    assert "This agent cannot learn on 2 ranks: batch norms of the family 'dreamer'" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "0")
        assert run(["train", "tiny", "--ranks", "2"]) == 2
        assert "torchrun has started this process as one of its ranks" in capsys.readouterr().err
    with pytest.raises(UsageError, match="Unknown experiment 'tiney'"):
        launch(Job("pretrained", "tiney"), 2)
