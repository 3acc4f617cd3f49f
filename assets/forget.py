"""Old runs leave Dagster's history: `retention` in dagster.yaml is of ticks alone, and Dagster itself keeps every run.

`worldline gc --runs-older-than 90` does so. A run costs 0.2 MB on SQLite, and its output. One that holds the newest
record of an asset's partition stays, whatever its age; artefacts and their lineage lie in the store, untouched.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage  # a file a run: no public way

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
PAGE = 1000  # events a question


def old_runs(instance: dg.DagsterInstance, days: float) -> list[str]:
    """The ids of runs that ended more than `days` ago and hold no asset's newest record of a partition."""
    before = datetime.fromtimestamp(time.time(), UTC) - timedelta(days=days)
    counts = {run for asset in instance.all_asset_keys() for run in _newest(instance, asset)}
    found = instance.get_runs(dg.RunsFilter(statuses=ENDED, updated_before=before))
    return [run.run_id for run in found if run.run_id not in counts]


def forget(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remove a run, its events, and what it printed."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.delete_run(run_id)
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):  # which empties the run's file, and leaves it
        Path(storage.path_for_shard(run_id)).unlink(missing_ok=True)


def _newest(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Iterator[str]:
    """The runs of the newest record of each partition of an asset."""
    seen, cursor, more = set[str | None](), None, True
    while more:
        page = instance.fetch_materializations(asset, limit=PAGE, cursor=cursor)
        for record in page.records:
            if record.partition_key not in seen:
                seen.add(record.partition_key)
                yield record.run_id
        cursor, more = page.cursor, page.has_more
