"""Runs whose process died: without this, a killed run stays "started" and keeps its place in the queue and its pool.

Dagster asks nobody whether the process of a run still lives. Here each run holds a lock file of its name as long as it
executes, whoever started it: a command, the daemon, a person in the UI. When the lock is free, the process is gone,
whatever killed it.

A lock tells about the home alone in which it lies. Several homes may share one history: each run names the home that
executes it, and no other judges it. A launcher that knows the health of its workers (pods, say) is asked by Dagster.
"""

import multiprocessing
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from assets.instance import hush
from pipelines import process
from pipelines.store.files import locked, locked_now, write_whole
from pipelines.store.ref import check_name

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
GRACE = 180.0  # seconds without a lock, for a run that begins or has just ended
HOME = "worldline/home"  # tag of a run: the home in which it executes
REASON = "The process that ran this is gone: killed, or the machine went down."


@contextmanager
def alive(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Within, the run counts as alive. A run that a server started goes with it: nobody could end it any more."""
    if multiprocessing.parent_process() is not None:
        process.leave_with(os.getppid())
        hush(instance)
    path = _lock(instance, run_id)
    with locked(path):
        instance.add_run_tags(run_id, {HOME: _here(instance)})
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def close_orphans(instance: dg.DagsterInstance, grace: float = GRACE) -> int:
    """End every unfinished run of this home whose process is gone, and free its slots; returns how many there were.

    A run without a lock counts as gone when nothing was heard of it for `grace` seconds.
    """
    closed = 0
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        if run.tags.get(HOME, _here(instance)) != _here(instance) or _watched(instance, run):
            continue
        silent = time.time() - record.update_timestamp.timestamp()
        if not _gone(_lock(instance, run.run_id), silent > grace):
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, REASON)
        else:
            instance.report_run_failed(run, REASON)
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        closed += 1
    return closed


def launched(run: dg.DagsterRun) -> bool:
    """Whether the run was handed to the instance's launcher; else the command that asked for it executes it itself."""
    return run.remote_job_origin is not None


class OfLaunched:
    """Mixin of launchers: a run that a command executes itself has no worker that could be missed.

    Dagster would fail it as soon as it looks. The sensor `dead_runs` ends those whose process is gone.
    """

    def check_run_worker_health(self, run: dg.DagsterRun) -> Any:
        """Whether the run's worker lives."""
        from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

        known = super().check_run_worker_health  # type: ignore[misc]  # the launcher's
        return known(run) if launched(run) else CheckRunHealthResult(WorkerStatus.RUNNING)


def _watched(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether Dagster asks the launcher about the run's worker, which need not be on this machine."""
    return launched(run) and instance.run_launcher.supports_check_run_worker_health


def _here(instance: dg.DagsterInstance) -> str:
    """This home's own word, made once; where the folder lies, or on which machine, says nothing of a shared disk."""
    path = Path(instance.root_directory) / "home.id"
    if not path.exists():
        with locked(path.with_name(".lock")):
            if not path.exists():
                write_whole(path, uuid.uuid4().hex.encode(), path.with_name("home.id.partial"))
    return path.read_text()


def _gone(lock: Path, without: bool) -> bool:
    """Whether nobody holds the lock, which is removed then; `without` is the answer where there is none."""
    if not lock.exists():
        return without
    with locked_now(lock) as free:
        if free:
            lock.unlink(missing_ok=True)
        return free


def _lock(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / "processes" / f"{check_name(run_id)}.lock"
