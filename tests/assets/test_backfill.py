"""Backfills: lanes side by side in processes of their own, and the same partitions drained by a real daemon."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest

from assets.backfill import Crew
from assets.instance import open_instance
from assets.launch import main
from assets.runner import Runner
from assets.server import workspace
from assets.step import EXPERIMENT, OVERRIDES, RECIPE, DataConfig
from pipelines import process
from pipelines.errors import UsageError
from pipelines.graph.backfill import FAILED, LAST, MADE, WAITS, choose, lanes
from pipelines.graph.experiment import register
from pipelines.home import dagster_home, home, open_store
from pipelines.recipes.registry import recipe
from pipelines.store.artefact import Artefact
from tests.fakes import ROOT, finish, wait_for

SMALL = ["collect.steps=2600", "collect.capacity=500", "downsample.transitions=300"]


@pytest.fixture(autouse=True)
def _home(ready_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_tags_say_whose_settings_where_the_run_config_does_not() -> None:
    assert DataConfig().or_of({}) == DataConfig()
    for asked in (DataConfig(recipe="mini", overrides=["seed=1"]), DataConfig(experiment="mine-12345678")):
        assert DataConfig().or_of(asked.tags()) == asked
    own = DataConfig(recipe="mini")
    assert own.or_of({EXPERIMENT: "mine", RECIPE: "demo"}) == own
    for wrong in ("seed=1", "1", '{"a": 1}'):
        with pytest.raises(UsageError, match="write a JSON list"):
            DataConfig().or_of({OVERRIDES: wrong})


SAYS = """
import json, sys, time
arguments = sys.argv[1:]
tell, steps = int(arguments[arguments.index("--tell") + 1]), arguments[arguments.index("--steps") + 1]
time.sleep(0.3)
for step in steps.split(","):
    if step == LOST:
        print("out of luck")
        sys.exit(1)
    with open(tell, "w", closefd=False) as pipe:
        print(json.dumps({"step": step, "state": "made", "seconds": 1.0, "text": step, "code": 0}), file=pipe)
"""


def lanes_that_only_say(monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """What became of them; the process of `lost` dies without a word. `test_launch.py` has a crew with real ones."""
    says = SAYS.replace("LOST", repr(lost))
    monkeypatch.setattr(process, "command", lambda module, *rest: [sys.executable, "-c", says, *rest])


def test_a_pool_and_jobs_limit_what_runs_together_and_a_lost_parent_stops_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes_that_only_say(monkeypatch, "tokens/Qbert")
    experiment = register(home() / "experiments", "mine", recipe("mini", ["games=Pong,Qbert,MsPacman"]))
    with open_instance() as instance:
        runner = Runner.of_experiment(instance, experiment.key)
        steps = choose(runner.plan, LAST)
        crew = Crew(runner, steps, jobs=2)
        together: dict[str, int] = {}
        for outcome in crew.outcomes():
            stages = [at.lane.steps[0].stage for at in crew.running.values()]
            together[outcome.step.stage] = max(together.get(outcome.step.stage, 0), len(stages))
        assert together["collected_replay"] == 2 and together["tokens"] == 1, together
        assert crew.done.keys() == {*steps}
        lost = {str(step): each for step, each in crew.done.items() if each.state != MADE}
        assert (lost["tokens/Qbert"].state, lost["tokens/Qbert"].text) == (FAILED, "out of luck")
        assert lost["world_action_model"].text == "for tokens/Qbert"
        assert {each.state for name, each in lost.items() if name != "tokens/Qbert"} == {WAITS}
        assert len(lost) == 1 + 1 + 3 + 1 and len(lanes(steps)) == 3 + 1 + 3 + 1 + 3 + 1


@pytest.mark.timeout(60)
def test_a_backfill_ends_when_its_last_lane_died_without_a_word_and_where_a_pool_admits_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes_that_only_say(monkeypatch, "pretrained")
    experiment = register(home() / "experiments", "mine", recipe("mini", []))
    with open_instance() as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 0)
        runner = Runner.of_experiment(instance, experiment.key)
        steps = choose(runner.plan, LAST)
        states = {outcome.step.stage: outcome.state for outcome in Crew(runner, steps, jobs=2).outcomes()}
    assert (states["segments"], states["pretrained"]) == (MADE, FAILED)
    assert states["tokens"] == states["leaderboard"] == WAITS


@pytest.mark.slow
@pytest.mark.parametrize("number", process.STOPS)
def test_an_interrupted_backfill_leaves_no_child_and_goes_on(number: signal.Signals) -> None:
    asked = ["backfill", "--recipe", "mini", "--games", "Pong,MsPacman", "--until", "collected_replay"]
    long = [*asked, "--set", "collect.steps=3000000"]
    command = process.command("assets.launch", *long, parent=False)
    started = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    locks = dagster_home() / "processes"
    wait_for(lambda: locks.is_dir() and len(list(locks.iterdir())) == 2, 120)
    children = psutil.Process(started.pid).children(recursive=True)
    started.send_signal(number)
    assert finish(started, 120) == (process.INTERRUPTED, "", f"{process.LINE}\n")
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in children)
    assert main([*asked, "--set", "collect.steps=300", "--set", "collect.capacity=100"]) == 0


@contextmanager
def daemon(log: Path) -> Iterator[None]:
    """Dagster's own daemon over our home, and nothing else."""
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace())]
    with log.open("w") as out:
        started = subprocess.Popen(command, env=os.environ | process.environment(), stdout=out, stderr=out)
    try:
        yield
    finally:
        family = psutil.Process(started.pid).children(recursive=True)
        started.send_signal(signal.SIGINT)
        started.wait(120)
        for each in psutil.wait_procs(family, timeout=30)[1]:
            each.kill()


def contents() -> dict[str, str]:
    """The bytes of every artefact, by address."""
    found: list[Artefact] = list(open_store().artefacts())
    return {str(each.ref): each.manifest.content for each in found}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # every run starts processes, which take their time on a crowded machine
def test_the_daemon_the_command_line_of_dagster_and_a_backfill_here_make_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = register(home() / "experiments", "mine", recipe("mini", [*SMALL, "games=MsPacman,Breakout"]))
    asked = ["backfill", "--experiment", experiment.key, "--games", "MsPacman,Breakout", "--until", "segments"]
    assert main(asked) == 0
    here = contents()
    assert {name.split("/")[0] for name in here} == {"collected_replay", "replay", "trajectories", "segments"}

    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "queued"))
    register(home() / "experiments", "mine", experiment.recipe)
    assert main([*asked, "--enqueue"]) == 0
    with open_instance() as instance, daemon(tmp_path / "daemon.log"):
        [stored] = instance.get_backfills()

        def ended() -> bool:
            found = instance.get_backfill(stored.backfill_id)
            return found is not None and found.status.value not in ("REQUESTED", "CANCELING", "FAILING")

        wait_for(ended, 600)
        assert all(run.is_success for run in instance.get_runs()), (tmp_path / "daemon.log").read_text()[-3000:]
    assert contents() == here

    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "dagsters"))
    register(home() / "experiments", "mine", experiment.recipe)
    whose = json.dumps({EXPERIMENT: experiment.key})
    with open_instance() as instance, daemon(tmp_path / "daemon2.log"):
        for job in ("collect", "fetch", "downsample", "index"):
            keys = "1|MsPacman,1|Breakout" if job == "fetch" else "MsPacman,Breakout"
            line = [sys.executable, "-m", "dagster", "job", "backfill", "-w", str(workspace()), "-j", job]
            line += ["--partitions", keys, "--tags", whose, "--noprompt"]
            done = subprocess.run(line, env=os.environ | process.environment(), capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            wait_for(lambda job=job: _succeeded(instance, job) == 2, 600)  # type: ignore[misc]
    assert contents() == here


def _succeeded(instance: dg.DagsterInstance, job: str) -> int:
    runs = list(instance.get_runs(dg.RunsFilter(job_name=job)))
    assert not any(run.is_failure_or_canceled for run in runs), job
    return sum(run.is_success for run in runs)
