"""Runs of killed processes are closed; runs of living ones are left alone."""

import signal
from pathlib import Path

import dagster as dg
import pytest

from assets.instance import open_instance
from assets.orphans import close_orphans, marked
from tests.fakes import finish, start, wait_for

KILLED = """
import sys, time
from pathlib import Path
import dagster as dg
from assets.instance import open_instance
from assets.orphans import marked

@dg.asset
def slow() -> None:
    Path(sys.argv[1]).touch()
    time.sleep(120)

with open_instance() as instance, marked(instance) as tags:
    dg.materialize([slow], instance=instance, tags=tags)
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")


def test_the_run_of_a_killed_process_is_failed_and_a_living_one_is_not(tmp_path: Path) -> None:
    process = start(KILLED, tmp_path / "started")
    try:
        wait_for((tmp_path / "started").exists)
        with open_instance() as instance:
            assert close_orphans(instance) == 0
            process.send_signal(signal.SIGKILL)
            finish(process)
            assert close_orphans(instance) == 1
            [run] = instance.get_runs()
            assert run.status == dg.DagsterRunStatus.FAILURE
            assert close_orphans(instance) == 0
    finally:
        process.kill()


def test_the_mark_ends_with_its_context() -> None:
    with open_instance() as instance:
        with marked(instance) as tags:
            [lock] = (Path(instance.root_directory) / "processes").iterdir()
            assert lock.stem in tags.values()
        assert not lock.exists()
