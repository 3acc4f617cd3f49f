"""The schedule and the sensors really fire: one `dagster dev` on loopback, its daemon, and the runs that they ask for.

Costs a minute of processor time, and up to another of waiting for the next full one; far longer on a busy machine.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest

from assets.automation import ROUND
from assets.instance import open_instance
from pipelines.evaluation.pool import pools
from pipelines.graph.make import board_config
from pipelines.graph.rounds import evaluations
from tests.fakes import ROOT, wait_for
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# The graph as it is, but each tick comes within the test's patience.
EVERY_MINUTE = """
import dagster as dg
from assets.automation import new_checkpoints, new_scores, weekly_reevaluation
from assets.definitions import ASSETS, JOBS
from assets.resources import Installation

defs = dg.Definitions(
    assets=ASSETS,
    jobs=list(JOBS.values()),
    schedules=[weekly_reevaluation("* * * * *")],
    sensors=[new_checkpoints(5), new_scores(5)],
    resources={"installation": Installation()},
    executor=dg.in_process_executor,
)
"""


@pytest.fixture
def ours(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:  # noqa: F811
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tiny_copy


@contextmanager
def served(definitions: Path, log: Path) -> Iterator[None]:
    """`dagster dev` on a free port of loopback; nothing that it started outlives it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-f", str(definitions), "-h", "127.0.0.1", "-p", str(port)]
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=definitions.parent, env=os.environ, stdout=out, stderr=out)
    try:
        yield
    finally:
        family = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGINT)
        try:
            server.wait(60)
        finally:
            _, left = psutil.wait_procs(family, timeout=20)
            for each in left:
                each.kill()
    assert not left, "Dagster left its own processes behind"


def switch(definitions: Path, kind: str, name: str, action: str = "start") -> None:
    """As a person does it: `dagster sensor start new_scores`."""
    subprocess.run(
        [sys.executable, "-m", "dagster", kind, action, name, "-f", str(definitions)], check=True, capture_output=True
    )


def test_schedule_and_sensors_fire_and_their_runs_succeed(ours: TinyRun, tmp_path: Path) -> None:
    definitions, log = tmp_path / "every_minute.py", tmp_path / "dagster.log"
    definitions.write_text(EVERY_MINUTE)
    name = f"scores/{ours.experiment.key}/Breakout"
    (ours.store.root / "refs" / f"{name}.json").unlink()  # its checkpoint is new now: it has no scores
    with open_instance() as instance, served(definitions, log):

        def wait(condition: Callable[[], bool]) -> None:
            try:
                wait_for(condition, 240)
            except AssertionError:
                raise AssertionError(log.read_text()[-3000:]) from None

        def runs(job: str, **tags: str) -> list[dg.DagsterRun]:
            return list(instance.get_runs(dg.RunsFilter(job_name=job, tags=tags)))

        def ended(job: str, **tags: str) -> bool:
            found = runs(job, **tags)
            assert not any(run.is_failure_or_canceled for run in found), log.read_text()[-3000:]
            return bool(found) and all(run.is_finished for run in found)

        switch(definitions, "sensor", "new_checkpoints")
        wait(lambda: ended("evaluate"))
        assert ours.store.resolve(name) == ours.made["scores"].ref
        [first] = runs("evaluate")
        assert first.tags["dagster/sensor_name"] == "new_checkpoints"
        switch(definitions, "schedule", "weekly_reevaluation")
        wait(lambda: any(ROUND in run.tags for run in runs("evaluate")) and ended("evaluate"))
        switch(definitions, "sensor", "new_scores")
        wait(lambda: ended("report"))
        scheduled = [run for run in runs("evaluate") if ROUND in run.tags]
        boards = runs("report")
    [again] = scheduled
    round_ = again.tags[ROUND]
    assert again.tags["dagster/schedule_name"] == "weekly_reevaluation"
    pool, _ = pools(evaluations(ours.store, "Breakout"))  # of greedy play, and of the beam beside it
    assert {member.ref for member in pool.members} == {
        ours.made["scores"].ref,
        ours.store.resolve(f"{name}/{round_}"),
    }
    assert boards[0].tags["dagster/sensor_name"] == "new_scores"
    assert ours.store.resolve("leaderboard/all") == board_config(ours.store).spec().ref
