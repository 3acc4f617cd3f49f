"""The scripts that `worldline job` prints, run by bash as a scheduler would run them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import run
from pipelines.graph.experiment import register
from pipelines.recipes.registry import recipe
from pipelines.store import machine
from tests.fakes import wait_for


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs: one for each of the scheduler's and ours, that notes how it was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("scontrol", "qsub", "worldline"):
        (programs / name).write_text(f'#!/bin/bash\necho {name} "$@" >> {tmp_path}/called\n')
        (programs / name).chmod(0o755)
    register(tmp_path / "home" / "experiments", "mini", recipe("mini", ["games=Pong,Freeway"]))
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["job", "mini", *arguments]) == 0
    return capsys.readouterr().out


def start(cluster: Path, script: str) -> subprocess.Popen[str]:
    """The script in a process group of its own, with the variables of both schedulers."""
    variables = {"SLURM_SUBMIT_DIR": str(cluster), "PBS_O_WORKDIR": str(cluster), "SLURM_JOB_ID": "17"}
    return subprocess.Popen(
        ["bash", "-c", script], env=os.environ | variables, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_what_is_asked_for_and_what_is_run(cluster: Path, capsys: pytest.CaptureFixture[str], scheduler: str) -> None:
    asked = ["--scheduler", scheduler, "--gpus", "2", "--hours", "336", "--queue", "gpu_long", "--memory", "64"]
    script = printed(capsys, *asked, "--until", "tokens", "--games", "freeway")
    wanted = {
        "slurm": ("--gres=gpu:2", "--time=336:00:00", "--partition=gpu_long", "--mem=64G", "--requeue"),
        "pbs": ("ncpus=8:mem=64gb:ngpus=2", "walltime=336:00:00", "-q gpu_long", "-r y"),
    }
    assert all(each in script for each in wanted[scheduler])
    assert "export WORLDLINE_RANKS=${WORLDLINE_RANKS:-2} " in script
    with start(cluster, script) as process:
        assert process.wait(20) == 0
    called = (cluster / "called").read_text().splitlines()
    assert len(called) == 1 and called[0].startswith("worldline materialize mini-")
    assert called[0].endswith("--until tokens --games Freeway")


def never_ready(cluster: Path) -> None:
    """Our command as one that works until it is told to stop."""
    stops = "trap 'sleep 0.3; exit 130' TERM; touch {0}/begun; while :; do sleep 0.05; done"
    (cluster / "bin" / "worldline").write_text(f"#!/bin/bash\n{stops.format(cluster)}\n")


def test_when_its_time_is_over_slurms_job_ends_the_work_and_is_queued_again(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never_ready(cluster)
    script = printed(capsys)
    assert "#SBATCH --signal=B:USR1@300" in script
    with start(cluster, script) as process:
        wait_for((cluster / "begun").exists)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(20) == 130
    assert (cluster / "called").read_text().splitlines() == ["scontrol requeue 17"]


def test_when_its_time_is_over_pbs_job_ends_the_work_and_is_queued_again(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never_ready(cluster)
    script = printed(capsys, "--scheduler", "pbs", "--hours", "2")
    assert "timeout --signal=TERM 6900 " in script
    with start(cluster, script.replace("TERM 6900", "TERM 2")) as process:
        assert process.wait(20) == 124
    assert (cluster / "called").read_text().splitlines() == ["qsub worldline-mini.sh"]


@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_a_cancelled_job_ends_the_work_and_stays_ended(
    cluster: Path, capsys: pytest.CaptureFixture[str], scheduler: str
) -> None:
    never_ready(cluster)
    with start(cluster, printed(capsys, "--scheduler", scheduler)) as process:
        wait_for((cluster / "begun").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
    assert not (cluster / "called").exists()
    left = subprocess.run(["pgrep", "-f", str(cluster / "bin" / "worldline")], capture_output=True, text=True)
    assert left.stdout == ""


def test_a_failure_of_the_work_is_the_jobs_own_and_is_not_tried_again(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cluster / "bin" / "worldline").write_text("#!/bin/bash\nexit 1\n")
    with start(cluster, printed(capsys)) as process:
        assert process.wait(20) == 1
    assert not (cluster / "called").exists()


def test_several_nodes_do_one_training(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = printed(capsys, "--nodes", "4", "--gpus", "8", "--only", "world_action_model")
    assert "WORLDLINE_RANKS" not in script  # torchrun's
    assert "--nodes=4" in script and "--nnodes 4 --nproc-per-node 8" in script
    assert (
        '--node-rank "$SLURM_NODEID" --master-addr "$HEAD" --master-port 29500 -m pipelines.cli train mini-' in script
    )
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scheduler", "lsf"], "Unknown scheduler 'lsf'"),
        (["--only", "tokenz"], "Unknown stage 'tokenz'"),
        (["--nodes", "2"], "2 nodes do one training together"),
        (["--nodes", "2", "--scheduler", "pbs", "--only", "pretrained"], "take one node a job"),
        (["--queue", "a; rm -r ."], "is no queue's name"),
        (["--games", "Pongo"], "Unknown game"),
        (["--games", "Qbert"], "Unknown game of this experiment 'Qbert'"),
        (["--until", "segments", "--only", "tokens"], "stage 'tokens' does not come before 'segments'"),
    ],
)
def test_what_no_scheduler_could_take_is_one_line(
    cluster: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(["job", "mini", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_a_manifest_of_a_job_counts_node_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = machine.CostMeter(earlier={"seconds": 7200.0, "cpu_seconds": 14_400.0})
    assert "node_hours" not in meter.read() and "slurm_job_id" not in machine.describe()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv(machine.NODES, "2")
    monkeypatch.setenv(machine.CPUS, "4")
    found = meter.read()
    assert found["node_hours"] == pytest.approx(4.0, rel=1e-3)
    assert found["cpu_efficiency_pct"] == pytest.approx(50.0, rel=0.02)
    assert machine.describe()["slurm_job_id"] == "17"
