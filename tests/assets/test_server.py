"""One UI a home: the second says where the first is, and whatever ends the first, nothing of it stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from assets.instance import open_instance
from assets.launch import main
from assets.server import lock, workspace
from pipelines import process
from pipelines.home import dagster_home, server
from tests.assets.served import PATIENCE, REPOSITORY, answers, ask, free_port, launched, ui
from tests.fakes import ROOT, start, wait_for

HOLDS = """
import os, sys
from assets.instance import open_instance
from assets.server import lock
with open_instance():
    lock("http://127.0.0.1:4711")
os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", "another program"])
"""
# Runs that outlast the test, of a stage that trains nothing.
LONG = {"ops": {"collected_replay": {"config": {"recipe": "mini", "overrides": ["collect.steps=3000000"]}}}}
ASK = """mutation($run: ExecutionParams!) { launchPipelineExecution(executionParams: $run) { __typename } }"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)


def test_the_second_says_where_the_first_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert server() == ""
    first = start(HOLDS)
    try:
        taken = psutil.Process(first.pid)
        wait_for(lambda: taken.cmdline()[-1:] == ["another program"])
        assert server() == f"http://127.0.0.1:4711, process {first.pid}", "though it became another program"
        assert main(["ui", "--port", "4712"]) == 1
        err = capsys.readouterr().err
        assert f"is there already, http://127.0.0.1:4711, process {first.pid}" in err and err.count("\n") == 1
    finally:
        first.kill()
        first.communicate()
    assert server() == "", "a lock of the dead is none"
    os.close(lock("http://127.0.0.1:4712"))


@pytest.mark.slow
def test_dagster_loads_the_code_that_runs_and_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance():
        path = workspace()
    monkeypatch.chdir(tmp_path)
    for name in ("dagster.py", "yaml.py", "torch.py", "assets.py"):
        (tmp_path / name).write_text("raise SystemExit('a stranger')")
    [loaded] = yaml.safe_load(path.read_text())["load_from"]
    assert loaded["python_module"]["working_directory"] in (str(ROOT), str(dagster_home()))
    validate = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(path)]
    done = subprocess.run(validate, env=os.environ | process.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def family(of: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [psutil.Process(of.pid), *psutil.Process(of.pid).children(recursive=True)]


def is_over(each: psutil.Process) -> bool:
    return not each.is_running() or each.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_new_home_takes_two_first_uis_and_a_backfill_at_once(tmp_path: Path) -> None:
    """One of the servers serves, the other says where; the run of the backfill is in the history of both."""
    small = ["--set", "collect.steps=300", "--set", "collect.capacity=100"]
    asked = ["backfill", "--recipe", "mini", "--games", "Pong", "--until", "collected_replay", *small]
    ports = {free_port(): tmp_path / "one", free_port(): tmp_path / "two"}
    servers = {port: launched(log, "ui", "--port", str(port)) for port, log in ports.items()}
    backfill = launched(tmp_path / "backfill", *asked)
    try:
        wait_for(lambda: any(map(answers, ports)) and backfill.poll() is not None, PATIENCE)
        assert backfill.returncode == 0, (tmp_path / "backfill").read_text()
        [serves] = filter(answers, ports)
        [other] = ports.keys() - {serves}
        assert servers[other].wait(PATIENCE) == 1
        assert f"is there already, http://127.0.0.1:{serves}, process {servers[serves].pid}" in ports[other].read_text()
        found = ask(serves, "{ runsOrError { ... on Runs { results { status } } } }")
        assert found["data"]["runsOrError"]["results"] == [{"status": "SUCCESS"}]
    finally:
        for each in (*servers.values(), backfill):
            each.terminate()
            each.wait(PATIENCE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["group", "process", "told", "ctrl-c"])
def test_nothing_outlives_the_ui_and_its_dead_runs_make_room(tmp_path: Path, how: str) -> None:
    """Three runs fill the limit of backfills; the next UI fails them at once, and a new one can begin."""
    port = free_port()
    with open_instance() as instance:

        def runs(*statuses: dg.DagsterRunStatus) -> set[str]:
            return {run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=list(statuses)))}

        with ui(tmp_path / "log", port) as first:
            for game in ("Pong", "Freeway", "Boxing"):
                begin(port, game)
            locks = dagster_home() / "processes"
            wait_for(lambda: locks.is_dir() and len(list(locks.iterdir())) == 3, PATIENCE)
            dead = runs(dg.DagsterRunStatus.STARTED)
            assert len(dead) == 3
            everything = family(first)
            listening = [at.laddr for each in everything for at in each.net_connections() if at.status == "LISTEN"]
            assert port in {at.port for at in listening} and {at.ip for at in listening} == {"127.0.0.1"}
            if how == "group":
                os.killpg(first.pid, signal.SIGKILL)
            elif how == "process":
                first.kill()
            elif how == "ctrl-c":  # a terminal tells its whole group
                os.killpg(first.pid, signal.SIGINT)
            else:
                first.terminate()
            wait_for(lambda: all(map(is_over, everything)), 60)
            if how in ("told", "ctrl-c"):
                assert first.wait(60) == 0, "a server that is told to end has done what it was for"
        with ui(tmp_path / "log", port) as second:
            assert dead == runs(dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
            begin(port, "Qbert")
            wait_for(lambda: len(runs(dg.DagsterRunStatus.STARTED)) == 1, PATIENCE)
            if how == "group":  # and a run that dies beside a living UI is failed by its sensor
                [killed] = runs(dg.DagsterRunStatus.STARTED)
                [worker] = [each for each in family(second) if any(killed in file.path for file in each.open_files())]
                worker.kill()
                wait_for(lambda: killed in runs(dg.DagsterRunStatus.FAILURE), PATIENCE)


def begin(port: int, game: str) -> None:
    selector = {**REPOSITORY, "jobName": "collect"}
    tags = [{"key": "dagster/partition", "value": game}, {"key": "dagster/backfill", "value": "one"}]
    run = {"selector": selector, "runConfigData": LONG, "mode": "default", "executionMetadata": {"tags": tags}}
    assert ask(port, ASK, run=run) == {"data": {"launchPipelineExecution": {"__typename": "LaunchRunSuccess"}}}
