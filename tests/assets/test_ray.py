"""Runs of the graph as jobs of a real Ray cluster: two nodes on this machine, each with an address of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import yaml

from assets.instance import template
from pipelines.store.store import Store
from tests.fakes import ROOT, wait_for

pytestmark = pytest.mark.slow

GAMES = ("Pong", "Breakout")


@dataclass(frozen=True)
class Cluster:
    """Where its jobs are submitted, and the processes of its two nodes."""

    jobs: str
    nodes: tuple["subprocess.Popen[bytes]", ...]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("ray.job_submission")
    folder = Path(f"/tmp/ray-{os.getpid()}")  # Ray's sockets allow no long path
    main, jobs = free_port(), free_port()
    quiet = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    start = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--block",
        "--num-cpus",
        "1",
        "--disable-usage-stats",
    ]
    head = ["--head", "--node-ip-address", "127.0.0.1", "--port", str(main), "--temp-dir", str(folder)]
    head += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(jobs)]
    other = ["--address", f"127.0.0.1:{main}", "--node-ip-address", "127.0.0.2"]
    nodes = []
    try:
        for own in (head, other):
            log = (tmp_path_factory.mktemp("ray") / "log").open("wb")
            nodes.append(subprocess.Popen([*start, *own], env=quiet, stdout=log, stderr=log, start_new_session=True))
            if own is head:
                wait_for(lambda: answers(jobs), 90)
        yield Cluster(f"http://127.0.0.1:{jobs}", tuple(nodes))
    finally:
        for node in reversed(nodes):
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait(30)
        for process in psutil.process_iter(["cmdline"]):
            if any(str(folder) in part for part in process.info["cmdline"] or ()):
                process.kill()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def home(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of two games, trained, whose frames are not encoded yet; its runs are jobs of the cluster."""
    home = tmp_path_factory.mktemp("home")
    for arguments in (
        ["experiment", "new", "far", "--recipe", "mini", "--set", f"games={','.join(GAMES)}"],
        ["materialize", "far", "--until", "pretrained"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *arguments], env=environment(home), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    (home / "dagster" / "dagster.yaml").write_text(template() + on_ray(cluster.jobs))
    return home


def on_ray(jobs: str) -> str:
    """The block that docs/ray.md has, with our address, and without the queue that only a daemon drains."""
    text = (ROOT / "docs" / "ray.md").read_text().split("```yaml\n")[1].split("```")[0]
    block = yaml.safe_load(text)
    assert block["run_launcher"]["config"]["ray"]["address"] == "http://127.0.0.1:8265"
    block["run_launcher"]["config"]["ray"]["address"] = jobs
    block["run_coordinator"] = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    return yaml.safe_dump(block)


def environment(home: Path) -> dict[str, str]:
    ours = {"WORLDLINE_HOME": str(home), "WORLDLINE_STORAGE": "local", "DAGSTER_HOME": str(home / "dagster")}
    return os.environ | ours | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def launch(home: Path, job: str, game: str) -> None:
    """As a person does from the UI: a run of one partition, given to the launcher."""
    experiment = next((home / "experiments").iterdir()).stem
    key = dg.MultiPartitionKey({"experiment": experiment, "game": game})
    tags = {"dagster/partition": str(key), "dagster/partition/experiment": experiment, "dagster/partition/game": game}
    command = [sys.executable, "-m", "dagster", "job", "launch", "-m", "assets.definitions", "-d", str(ROOT), "-j", job]
    done = subprocess.run(
        [*command, "--tags", json.dumps(tags)], env=environment(home), cwd=home, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def asked(home: Path, what: Callable[[dg.DagsterInstance], Any]) -> Any:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        return what(instance)


def runs(home: Path, job: str) -> list[dg.DagsterRun]:
    return list(asked(home, lambda instance: instance.get_runs(dg.RunsFilter(job_name=job))))


def ours(home: Path) -> list[psutil.Process]:
    """Processes that work in this home, the cluster's own apart."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if process.environ().get("WORLDLINE_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return [each for each in found if each.pid != os.getpid()]


def test_games_are_encoded_and_played_side_by_side_on_two_nodes(
    home: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    from ray.job_submission import JobSubmissionClient

    for job in ("encode", "train", "evaluate"):
        if job == "train":
            command = [sys.executable, "-m", "pipelines.cli", "train", "far"]
            assert subprocess.run(command, env=environment(home), capture_output=True).returncode == 0
            continue
        for game in GAMES:
            launch(home, job, game)
        wait_for(lambda job=job: all(run.is_finished for run in runs(home, job)), 150)  # type: ignore[misc]
        assert [run.status for run in runs(home, job)] == [dg.DagsterRunStatus.SUCCESS] * 2
    done = JobSubmissionClient(cluster.jobs).list_jobs()
    assert len(done) == 4 and len({job.driver_node_id for job in done}) == 2
    made = {(found.ref.stage, found.ref.subject) for found in Store(home / "store").artefacts()}
    assert made >= {(stage, game) for stage in ("tokens", "scores") for game in GAMES}


def test_a_cancelled_run_leaves_no_job_and_no_process(
    home: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    register = ["experiment", "new", "long", "--recipe", "mini", "--set", "pretrain.phases.tokenizer.steps=100000"]
    subprocess.run([sys.executable, "-m", "pipelines.cli", *register], env=environment(home), check=True)
    experiment = next(path.stem for path in (home / "experiments").iterdir() if path.stem.startswith("long"))
    asked(home, lambda instance: instance.add_dynamic_partitions("experiment", [experiment]))
    command = [sys.executable, "-m", "dagster", "job", "launch", "-m", "assets.definitions", "-d", str(ROOT)]
    tags = json.dumps({"dagster/partition": experiment})
    subprocess.run([*command, "-j", "pretrain", "--tags", tags], env=environment(home), cwd=home, check=True)
    wait_for(lambda: any((home / "store").rglob("metrics.jsonl")), 120)
    (run,) = runs(home, "pretrain")
    started = time.monotonic()
    assert asked(home, lambda instance: instance.run_launcher.terminate(run.run_id))
    wait_for(lambda: not ours(home), 60)
    assert time.monotonic() - started < 60


def test_a_run_that_a_command_executes_is_not_missed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)

    def health(instance: dg.DagsterInstance) -> str:
        (run,) = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": "Pong"}), limit=1)
        return str(instance.run_launcher.check_run_worker_health(run).status.value)

    assert asked(home, health) == "RUNNING"
