"""Runs of killed processes are closed, whoever started them; runs of living ones are left alone."""

import signal
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin

from assets.instance import open_instance
from assets.orphans import alive, close_orphans
from assets.resources import Installation
from pipelines.home import dagster_home
from tests.fakes import finish, start, wait_for

KILLED = """
import sys, time
from pathlib import Path
from typing import Any
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
SERVER = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=4000, location_name="worldline")
ORIGIN = RemoteRepositoryOrigin(SERVER, "__repository__").get_job_origin("train")  # of runs that a launcher starts
# As a new home, but pools count steps, which hold their places themselves.
BY_STEP = "concurrency: {pools: {granularity: op, default_limit: 1}}\ntelemetry: {enabled: false}\n"


pytestmark = pytest.mark.usefixtures("ready_home")


def test_the_run_of_a_killed_process_is_failed_and_a_living_one_is_not(tmp_path: Path) -> None:
    (dagster_home() / "dagster.yaml").write_text(BY_STEP)
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

    with open_instance() as instance:
        run = instance.create_run_for_job(_job(), status=was)
        assert close_orphans(instance) == 0
        with alive(instance, run.run_id):
            time.sleep(0.01)
            assert close_orphans(instance, grace=0) == 0
        assert close_orphans(instance, grace=0) == 1
        found = instance.get_run_by_id(run.run_id)
        assert found is not None and found.status == becomes


def test_homes_that_share_a_history_judge_their_own_runs_alone(tmp_path: Path) -> None:
    """As with one PostgreSQL: a run that lives elsewhere has no lock here, and must not be failed for it."""

    with open_instance() as instance:
        run = instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED)
        shared = instance.root_directory
        elsewhere = Elsewhere(instance, tmp_path / "elsewhere")
        with alive(elsewhere, run.run_id):
            assert not list((Path(shared) / "processes").glob("*"))
            assert close_orphans(instance, grace=0) == 0
            assert close_orphans(elsewhere, grace=0) == 0
        assert close_orphans(instance, grace=0) == 0
        assert close_orphans(elsewhere, grace=0) == 1


class Elsewhere:
    """The same history, seen from a home in another folder."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path) -> None:
        folder.mkdir()
        self._instance, self.root_directory = instance, str(folder)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)


@pytest.mark.parametrize("knows", [True, False])
def test_a_launcher_that_knows_its_workers_is_believed(knows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a pod has no process here. One that a command executes itself was never the launcher's."""
    with open_instance() as instance:
        monkeypatch.setattr(type(instance.run_launcher), "supports_check_run_worker_health", knows)
        mine = instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED)
        theirs = instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED, remote_job_origin=ORIGIN)
        assert close_orphans(instance, grace=0) == (1 if knows else 2)
        for run, ended in ((mine, True), (theirs, not knows)):
            found = instance.get_run_by_id(run.run_id)
            assert found is not None and found.is_finished == ended


def _job() -> dg.JobDefinition:
    @dg.asset
    def nothing() -> None: ...

    return dg.Definitions(assets=[nothing]).resolve_implicit_global_asset_job_def()


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
