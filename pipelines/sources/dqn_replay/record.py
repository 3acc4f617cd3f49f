"""The files of a `replay` artefact: the bucket's listing, the small arrays and the stitched tables. Written and read.

objects.json     every log file: name relative to the bucket's root, bytes, crc32c (hex), version
small.h5         F logs of N rows: checkpoints (F,), add_counts (F,), actions (F,N), rewards (F,N), terminals (F,N)
episodes.parquet one row per episode: stream.EPISODE_COLUMNS
pieces.parquet   where each episode's rows lie: stream.PIECE_COLUMNS
evidence.parquet facts about each log: log_order.LogFacts

A stage that needs frames opens the record and reads them from `record.bucket`, piece by piece. frame_extraction.py
brings them into a trajectory file; what writes the small arrays there (actions, rewards, origins, ends) and compares
the finished file with what went in is here. `drawn` is the table that `downsample.draw` gives, with the slot of each
episode's first transition.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import google_crc32c
import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import Mirror
from pipelines.bucket.download import download
from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter
from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.frame_extraction import ExtractionPlan
from pipelines.sources.dqn_replay.listing import LogName, RemoteObject, file_name, log_folder, plain
from pipelines.sources.dqn_replay.log_order import to_table
from pipelines.sources.dqn_replay.ring_log import RingLog
from pipelines.sources.dqn_replay.stitch import Stitched
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.store.store import Store

OBJECTS, SMALL, EPISODES, PIECES = "objects.json", "small.h5", "episodes.parquet", "pieces.parquet"
LOG_FACTS = "evidence.parquet"


@dataclass(frozen=True)
class ReplayRecord:
    """One agent's replay as read back from its artefact. `bucket` is the one that still holds the frames."""

    ref: Ref
    bucket: Bucket
    game: str
    agent: int
    objects: tuple[RemoteObject, ...]
    episodes: pd.DataFrame
    pieces: pd.DataFrame
    small: Path

    @classmethod
    def open(cls, artefact: Artefact, store: Store) -> "ReplayRecord":
        """Read a `replay` artefact. Raises WorldlineError when the collected replay it came from is gone or damaged."""
        config, root = artefact.manifest.config, bucket_root(artefact, store)
        rows = json.loads(artefact.path(OBJECTS).read_text())
        return cls(
            ref=artefact.ref,
            bucket=Bucket.of(root, store.profile, Mirror.of(root, store)),
            game=config["game"],
            agent=config["agent"],
            objects=tuple(RemoteObject(url=f"{root}/{row['name']}", **row) for row in rows),
            episodes=pd.read_parquet(artefact.path(EPISODES)),
            pieces=pd.read_parquet(artefact.path(PIECES)),
            small=artefact.path(SMALL),
        )

    def object(self, kind: str, checkpoint: int) -> RemoteObject:
        """The entry of one log file. Raises WorldlineError when the list lacks it."""
        name = f"{log_folder(self.game, self.agent)}/{file_name(kind, checkpoint)}"
        for item in self.objects:
            if item.name == name:
                return item
        raise WorldlineError(f"{self.ref} lists no {name}: delete that artefact and make it again")

    def logs(self) -> list[RingLog]:
        """The small arrays of every log, ascending."""
        with h5py.File(self.small, "r") as file:
            names = ("checkpoints", "add_counts", "actions", "rewards", "terminals")
            columns = [file[name][:] for name in names]
        return [RingLog(int(n), int(count), *arrays) for n, count, *arrays in zip(*columns, strict=True)]

    def mirror_frames(self) -> None:
        """Copy the observation files from their bucket into the mirror; a bucket without a mirror has none to copy.

        The copy can be resumed. Raises ObjectReplaced when the bucket holds another version than was fetched from.
        """
        frames = [item for item in self.objects if item.log.kind == "observation"]
        if self.bucket.mirror is not None:
            download(self.bucket, frames, f"Mirror frames {self.game}/{self.agent}", pinned=True)

    def log(self, checkpoint: int) -> RingLog:
        """The small arrays of one log; 8 MB for a ring of a million rows. Raises WorldlineError when it is absent."""
        with h5py.File(self.small, "r") as file:
            found = np.flatnonzero(file["checkpoints"][:] == checkpoint)
            if len(found) != 1:
                raise WorldlineError(f"{self.ref} holds no log {checkpoint}: delete that artefact and make it again")
            row = int(found[0])
            arrays = [file[name][row] for name in ("actions", "rewards", "terminals")]
            return RingLog(checkpoint, int(file["add_counts"][row]), *arrays)


def write_record(
    path: Callable[[str], Path], objects: Sequence[RemoteObject], logs: Sequence[RingLog], found: Stitched
) -> None:
    """Write the five files to `path(name)`. The same input gives the same bytes."""
    path(OBJECTS).write_text(json.dumps([plain(item) for item in objects], indent=1) + "\n")
    with h5py.File(path(SMALL), "w") as file:
        file["checkpoints"] = np.array([log.checkpoint for log in logs], np.int64)
        file["add_counts"] = np.array([log.add_count for log in logs], np.int64)
        shape, chunks = (len(logs), logs[0].capacity), (1, min(logs[0].capacity, 1 << 16))
        for name, dtype in (("actions", np.uint8), ("rewards", np.float32), ("terminals", np.uint8)):
            data = file.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip", compression_opts=4)
            for row, log in enumerate(logs):
                data[row] = getattr(log, name)
    found.episodes.to_parquet(path(EPISODES), index=False)
    found.pieces.to_parquet(path(PIECES), index=False)
    to_table(found.facts).to_parquet(path(LOG_FACTS), index=False)


def all_episodes(records: Sequence[ReplayRecord]) -> pd.DataFrame:
    """The episode tables of several agents in one."""
    return pd.concat([record.episodes for record in records], ignore_index=True)


def bucket_root(artefact: Artefact, store: Store) -> str:
    """URL of the bucket that a `replay` artefact was read from: the configured one, or our own collected replay.

    Raises WorldlineError when the collected replay is gone or damaged.
    """
    if url := artefact.manifest.config["url"]:
        return url.rstrip("/")
    return local_url(store.open(Ref.parse(artefact.manifest.parents[0].ref)).folder)


def local_url(folder: Path) -> str:
    """A folder as fsspec reads it: `file://` and the plain path, not percent-encoded."""
    return f"file://{folder.resolve()}"


def group_by_checkpoint(objects: Sequence[RemoteObject]) -> dict[int, dict[str, RemoteObject]]:
    """The objects by checkpoint (ascending) and kind."""
    groups: dict[int, dict[str, RemoteObject]] = {}
    for item in objects:
        name: LogName = item.log
        groups.setdefault(name.checkpoint, {})[name.kind] = item
    return dict(sorted(groups.items()))


# ---- into a trajectory file ----


def plan_extraction(record: ReplayRecord, pieces: pd.DataFrame, edges: NDArray[np.int64]) -> list[ExtractionPlan]:
    """What is wanted of each observation file of one agent, ascending. pieces: see `downsample.place_pieces`."""
    return [
        ExtractionPlan(record.object("observation", file), record.bucket, pieces[pieces["file"] == file], edges)
        for file in sorted(set(pieces["file"].tolist()))
    ]


def edge_slots(drawn: pd.DataFrame) -> NDArray[np.int64]:
    """The slots of every episode's first and last frame, sorted. Their frames are compared after writing."""
    firsts = drawn["slot"].to_numpy()
    return np.unique(np.concatenate([firsts, firsts + drawn["length"].to_numpy() - 1]))


def copy_small_arrays(record: ReplayRecord, pieces: pd.DataFrame, writer: TrajectoryWriter) -> None:
    """Write actions, rewards and origins of one agent's drawn episodes, file by file, in few writes."""
    for checkpoint in sorted(set(pieces["file"].tolist())):
        log, mine = record.log(checkpoint), pieces[pieces["file"] == checkpoint]
        counts = (mine["stop"] - mine["start"]).to_numpy()
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows, slots = (np.repeat(mine[name].to_numpy(), counts) + within for name in ("start", "slot"))
        source = np.empty((len(rows), 3), np.int32)
        source[:, 0], source[:, 1], source[:, 2] = record.agent, checkpoint, rows
        columns = {"actions": log.actions[rows], "rewards": log.rewards[rows], "source_rows": source}
        breaks = np.flatnonzero(np.diff(slots) != 1) + 1
        for low, high in zip([0, *breaks.tolist()], [*breaks.tolist(), len(slots)], strict=True):
            for name, values in columns.items():
                writer.write(name, int(slots[low]), values[low:high])


def write_ends(drawn: pd.DataFrame, writer: TrajectoryWriter) -> None:
    """Write `terminals`, which marks true ends only, and `truncations`, which marks ends by the time limit."""
    last = (drawn["slot"] + drawn["length"] - 1).to_numpy()
    for name, ends in (("terminals", drawn["terminated"]), ("truncations", drawn["truncated"])):
        values = np.zeros(last[-1] + 1, np.uint8)
        values[last] = ends
        writer.write(name, 0, values)


def compare(written: Trajectories, drawn: pd.DataFrame, edges: NDArray[np.void]) -> str:
    """Compare a finished file with what went in, close it, and say what was compared.

    edges: slots and checksums of the frames as they were extracted (frame_extraction.EDGE). Raises WorldlineError when
    anything differs, as a wrong file must not be committed.
    """
    missing = np.setdiff1d(edge_slots(drawn), edges["slot"])
    wrong = [
        slot for slot, crc in edges.tolist() if google_crc32c.value(written.frames(slot, slot + 1).tobytes()) != crc
    ]
    ends = int(written.terminals.sum(dtype=np.int64) + written.truncations.sum(dtype=np.int64))
    spans = pairwise(written.episode_starts.tolist())
    returns = [float(written.rewards[start:stop].sum(dtype=np.float64)) for start, stop in spans]
    if len(missing) or wrong or ends != len(drawn) or not np.array_equal(returns, drawn["return"]):
        raise WorldlineError(
            f"{written.path} reads back differently ({len(missing)} frames absent, {len(wrong)} changed, {ends} ends "
            f"for {len(drawn)} episodes): check the disk and run the same command again"
        )
    written.close()
    return f"first and last frames, ends and returns of {len(drawn)} episodes read back equal"
