"""DQN-Replay's logs as a source: snapshots of a ring, whose small arrays lie in files of their own.

Everything but the frames is read. Of the observation files only headers are read, and whole files for their checksums
where the bucket publishes none. Facts are log_order.LogFacts; small.h5 holds F logs of N rows: checkpoints (F,),
add_counts (F,), actions (F,N), rewards (F,N), terminals (F,N).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import Absent, Refused
from pipelines.environments.registry import GAMES
from pipelines.errors import WorldlineError
from pipelines.progress import say, track
from pipelines.sources.dqn_replay.listing import (
    ALL_KINDS,
    KINDS,
    RemoteObject,
    list_objects,
    log_of,
    mirror_small_arrays,
)
from pipelines.sources.dqn_replay.log_checks import check_logs
from pipelines.sources.dqn_replay.log_order import Continuity, LogFacts, to_table
from pipelines.sources.dqn_replay.log_reader import iter_blocks
from pipelines.sources.dqn_replay.ring_log import REPAIR, RingLog, read_logs
from pipelines.sources.dqn_replay.stitch import read_episodes
from pipelines.sources.source import SMALL, Reading, ReplayRecord, Run, Source
from pipelines.store.artefact import Draft


class DqnReplay:
    """See `Source`."""

    holds = "GAME/AGENT/replay_logs"
    at_once = 8

    def list_objects(self, bucket: Bucket, run: Run) -> list[RemoteObject]:
        """Every log must have all kinds of files; the side files may be absent where `compat` reads without them."""
        return list_objects(bucket, run.game, run.agent, KINDS if run.compat else ALL_KINDS)

    def probe(self, bucket: Bucket) -> tuple[Run, list[RemoteObject]]:
        """Where the root may not be listed, one that the public bucket has."""
        run = Run("Pong", 1)
        try:
            game = next((name for name in sorted(bucket.contents("")) if name in GAMES), run.game)
            agents = [int(each) for each in bucket.contents(game) if each.isdecimal()]
            run = Run(game, min(agents, default=1))
        except (Absent, Refused):  # the listing of the logs says more
            pass
        return run, list_objects(bucket, run.game, run.agent, needed=())

    def read(self, run: Run, bucket: Bucket, objects: Sequence[BucketObject], draft: Draft) -> Reading:
        """Small arrays go through the mirror, where they stay; logs whose files disagree in rows are left out."""
        checked: list[RemoteObject] = []
        title, files = f"Read replay {run}", as_logs(objects)
        mirror_small_arrays(bucket, files)
        with track(title, total=len(files), unit="files") as advance:
            logs, left_out = read_logs(_with_checksums(files, bucket, checked), bucket, advance)
        for line in left_out.values():
            say(f"{title}: left out, as its files disagree in rows: {line}")
        if not logs:
            raise WorldlineError(f"{title}: no log whose files agree in rows, as {left_out.popitem()[1]}: {REPAIR}")
        found = read_episodes(logs, run.game, run.agent, run.compat, run.keep_padding)
        absent = [LogFacts(checkpoint, Continuity.LEFT_OUT) for checkpoint in left_out]
        facts = sorted([*found.facts, *absent], key=lambda each: each.checkpoint)
        found = replace(found, facts=tuple(facts))
        write_small(draft.path(SMALL), logs)
        checks = check_logs(found, [*left_out.values()], run.game, lenient=run.keep_padding or bool(run.compat))
        rows = sum(each.rows for each in found.facts)
        return Reading(checked, found.episodes, found.pieces, to_table(found.facts), rows, checks)

    def foresee(
        self, run: Run, bucket: Bucket, objects: Sequence[BucketObject]
    ) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Stitches the logs without a look at their frames. The small arrays stay in the mirror."""
        files = as_logs(objects)
        mirror_small_arrays(bucket, files)
        small = {n: {k: f for k, f in kinds.items() if k != "observation"} for n, kinds in by_checkpoint(files).items()}
        logs, _ = read_logs(small.items(), bucket, lambda _: None)
        if not logs:
            raise WorldlineError(f"{bucket.root} {run}: no log whose files agree in rows: {REPAIR}")
        found = read_episodes(logs, run.game, run.agent, run.compat, run.keep_padding)
        return found.episodes, found.pieces

    def with_frames(self, objects: Sequence[BucketObject]) -> Mapping[int, BucketObject]:
        """The observation files by checkpoint."""
        named = ((log_of(item.name), item) for item in objects)
        return {log.checkpoint: item for log, item in named if log is not None and log.kind == "observation"}

    def blocks(
        self, item: BucketObject, bucket: Bucket, pieces: pd.DataFrame
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """All rows of the file, 512 at a time."""
        row = 0
        for block in iter_blocks(item, bucket):
            yield row, block
            row += len(block)

    def arrays(self, record: ReplayRecord, file: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """Of one log; 5 MB for a ring of a million rows. Raises WorldlineError when it is absent."""
        with h5py.File(record.small, "r") as small:
            found = np.flatnonzero(small["checkpoints"][:] == file)
            if len(found) != 1:
                raise WorldlineError(f"{record.ref} holds no log {file}: delete that artefact and make it again")
            return small["actions"][int(found[0])], small["rewards"][int(found[0])]


SOURCE: Source = DqnReplay()


def as_logs(objects: Sequence[BucketObject]) -> list[RemoteObject]:
    """Objects as what their names say they are."""
    return [RemoteObject(**asdict(item)) for item in objects]


def by_checkpoint(objects: Sequence[RemoteObject]) -> dict[int, dict[str, RemoteObject]]:
    """The objects by checkpoint (ascending) and kind."""
    groups: dict[int, dict[str, RemoteObject]] = {}
    for item in objects:
        groups.setdefault(item.log.checkpoint, {})[item.log.kind] = item
    return dict(sorted(groups.items()))


def write_small(path: Path, logs: Sequence[RingLog]) -> None:
    """Write the small arrays of every log. The same input gives the same bytes."""
    with h5py.File(path, "w") as file:
        file["checkpoints"] = np.array([log.checkpoint for log in logs], np.int64)
        file["add_counts"] = np.array([log.add_count for log in logs], np.int64)
        shape, chunks = (len(logs), logs[0].capacity), (1, min(logs[0].capacity, 1 << 16))
        for name, dtype in (("actions", np.uint8), ("rewards", np.float32), ("terminals", np.uint8)):
            data = file.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip", compression_opts=4)
            for row, log in enumerate(logs):
                data[row] = getattr(log, name)


def read_small(record: ReplayRecord) -> list[RingLog]:
    """The small arrays of every log, ascending."""
    with h5py.File(record.small, "r") as file:
        columns = [file[name][:] for name in ("checkpoints", "add_counts", "actions", "rewards", "terminals")]
    return [RingLog(int(n), int(count), *arrays) for n, count, *arrays in zip(*columns, strict=True)]


def _with_checksums(
    objects: Sequence[RemoteObject], bucket: Bucket, checked: list[RemoteObject]
) -> Iterator[tuple[int, dict[str, RemoteObject]]]:
    """Checkpoint after checkpoint, its objects by kind, each with a crc32c where nothing else pins it.

    They are added to `checked` when their log was read.
    """
    for checkpoint, kinds in by_checkpoint(objects).items():
        group = {kind: bucket.pinned(item) for kind, item in kinds.items()}
        yield checkpoint, group
        checked += group.values()
