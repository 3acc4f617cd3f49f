"""Runs whose process died: without this, a killed run stays "started" and keeps its place in the queue and its pool.

Dagster watches only runs that its daemon started; ours run in the process that the user started. Each such process
holds a lock file, which its runs name in a tag: when the lock is free, the process is gone, whatever killed it.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from pipelines.store.files import locked, locked_now
from pipelines.store.ref import check_name

TAG = "worldline/process"
UNFINISHED = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


@contextmanager
def marked(instance: dg.DagsterInstance) -> Iterator[dict[str, str]]:
    """The tags for runs of this process, which count as alive as long as the context lasts."""
    name = uuid.uuid4().hex
    path = _lock(instance, name)
    with locked(path):
        try:
            yield {TAG: name}
        finally:
            path.unlink(missing_ok=True)


def close_orphans(instance: dg.DagsterInstance) -> int:
    """Fail every unfinished run whose process is gone; returns how many there were."""
    runs = [run for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) if TAG in run.tags]
    orphans = [run for run in runs if _gone(_lock(instance, run.tags[TAG]))]
    for run in orphans:
        instance.report_run_failed(run, "The process that ran this is gone: killed, or the machine went down.")
    return len(orphans)


def _gone(lock: Path) -> bool:
    if not lock.exists():
        return True
    with locked_now(lock) as free:
        if free:
            lock.unlink(missing_ok=True)
        return free


def _lock(instance: dg.DagsterInstance, name: str) -> Path:
    return Path(instance.root_directory) / "processes" / f"{check_name(name)}.lock"
