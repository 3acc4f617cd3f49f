"""Runs of killed processes are closed, whoever started them; runs of living ones are left alone."""

import signal
import time
from pathlib import Path

import dagster as dg
import pytest

from assets.instance import open_instance
from assets.orphans import alive, close_orphans
from assets.resources import Installation
from tests.fakes import finish, start, wait_for

KILLED = """
import sys, time
from pathlib import Path
import dagster as dg
from assets.instance import open_instance
from assets.resources import Installation

@dg.asset(pool="gpu")
def slow(installation: Installation) -> None:
    Path(sys.argv[1]).touch()
    time.sleep(120)

with open_instance() as instance:
    dg.materialize([slow], instance=instance, resources={"installation": Installation()})
"""
# As a new home, but pools count steps, which hold their places themselves.
BY_STEP = "concurrency: {pools: {granularity: op, default_limit: 1}}\ntelemetry: {enabled: false}\n"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")


def test_the_run_of_a_killed_process_is_failed_and_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    (tmp_path / "home" / "dagster" / "dagster.yaml").write_text(BY_STEP)
    process = start(KILLED, tmp_path / "started")
    try:
        wait_for((tmp_path / "started").exists)
        with open_instance() as instance:
            assert close_orphans(instance) == 0
            storage = instance.event_log_storage
            assert storage.get_concurrency_info("gpu").active_slot_count == 1
            process.send_signal(signal.SIGKILL)
            finish(process)
            assert close_orphans(instance) == 1
            [run] = instance.get_runs()
            assert run.status == dg.DagsterRunStatus.FAILURE
            assert storage.get_concurrency_info("gpu").active_slot_count == 0
            assert close_orphans(instance) == 0
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED),
    ],
    ids=str,
)
def test_a_run_of_which_nothing_is_heard(was: dg.DagsterRunStatus, becomes: dg.DagsterRunStatus) -> None:
    """A run without a lock may be about to begin: it counts as dead after a while."""

    @dg.asset
    def nothing() -> None: ...

    with open_instance() as instance:
        job = dg.Definitions(assets=[nothing]).resolve_implicit_global_asset_job_def()
        run = instance.create_run_for_job(job, status=was)
        assert close_orphans(instance) == 0
        with alive(instance, run.run_id):
            time.sleep(0.01)
            assert close_orphans(instance, grace=0) == 0
        assert close_orphans(instance, grace=0) == 1
        found = instance.get_run_by_id(run.run_id)
        assert found is not None and found.status == becomes


def test_a_run_is_alive_as_long_as_it_has_its_resource() -> None:
    seen = []

    @dg.asset
    def looks(context: dg.AssetExecutionContext, installation: Installation) -> None:
        folder = Path(context.instance.root_directory) / "processes"
        seen.extend(path.name for path in folder.iterdir())

    with open_instance() as instance:
        done = dg.materialize([looks], instance=instance, resources={"installation": Installation()})
        assert seen == [f"{done.run_id}.lock"]
        assert not list((Path(instance.root_directory) / "processes").iterdir())
