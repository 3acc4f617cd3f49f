"""What every source of replay answers, whatever the layout of its bucket; and the files of a `replay` artefact.

A source is a folder here whose `source.py` has a SOURCE, found by the `layout` of the storage profile (LAYOUTS). It
lists the objects of a run, reads them once into small arrays and tables, and later gives the frames of drawn rows.
The rest is the same for all: pins, mirror, the draw, chunks of frames, resuming, and these files of the artefact:

objects.json     every object: name relative to the bucket's root, bytes, crc32c (hex), version
episodes.parquet one row per episode: EPISODE_COLUMNS, and the source's own
pieces.parquet   where each episode's rows lie: PIECE_COLUMNS; a piece is rows start .. stop-1 of file number `file`
evidence.parquet facts about each file, a row per file; their columns are the source's own
small.h5         the rows without their frames, in the source's own form

A stage that needs frames opens the record and reads them from `record.bucket`, piece by piece. frame_extraction.py
brings them into a trajectory file; what writes the small arrays there (actions, rewards, origins, ends) and compares
the finished file with what went in is here. `drawn` is the table that `downsample.draw` gives, with the slot of each
episode's first transition.
"""

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject, Mirror
from pipelines.bucket.download import download
from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter
from pipelines.errors import WorldlineError, unknown
from pipelines.sources.frame_extraction import ExtractionPlan
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.ref import Ref
from pipelines.store.stage_config import canonical_json
from pipelines.store.store import Store

LAYOUTS = {
    "dqn_replay": "pipelines.sources.dqn_replay.source",
    "rl_unplugged": "pipelines.sources.rlu.source",
}
OBJECTS, SMALL, EPISODES, PIECES = "objects.json", "small.h5", "episodes.parquet", "pieces.parquet"
FACTS = "evidence.parquet"
PICTURE = "replay.png"
TIME_LIMIT = 27_000  # agent steps at which the agents of both public sets ended an episode
EPISODE_COLUMNS = [
    "agent",
    "episode",
    "length",
    "return",
    "terminated",
    "truncated",
    "complete",
    "checkpoint",
    "first_file",
    "first_row",
    "last_file",
    "last_row",
]
PIECE_COLUMNS = ["episode", "file", "start", "stop"]


@dataclass(frozen=True)
class Run:
    """One agent's run of a game, and how its rows are to be read: see `FetchConfig`."""

    game: str
    agent: int
    compat: str = ""
    keep_padding: bool = False
    mirror: str = "small"

    def __str__(self) -> str:
        return f"{self.game}/{self.agent}"


@dataclass(frozen=True)
class CheckResult:
    """One check with its numbers. `pictured` says that the artefact's picture shows what the check is about."""

    name: str
    passed: bool
    detail: str
    blocking: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    pictured: bool = False


@dataclass(frozen=True)
class Reading:
    """What a source read of a run. objects: each with a checksum or a version that pins it. rows: of all files.

    episodes, pieces, facts: tables as the artefact keeps them.
    """

    objects: Sequence[BucketObject]
    episodes: pd.DataFrame
    pieces: pd.DataFrame
    facts: pd.DataFrame
    rows: int
    checks: Sequence[CheckResult]


class Source(Protocol):
    """How the objects of one layout are listed and read. It keeps no state."""

    holds: str  # the names that a bucket of this layout has below its root
    at_once: int  # files that may be read at a time and stay below 400 MB of memory, whatever they hold

    def list_objects(self, bucket: Bucket, run: Run) -> Sequence[BucketObject]:
        """All objects of a run. Where listing is refused they are asked for by name.

        Raises WorldlineError where there are none or one that is needed is missing, UsageError for a run that this
        source cannot read so.
        """

    def probe(self, bucket: Bucket) -> tuple[Run, Sequence[BucketObject]]:
        """A run that the bucket holds, whole or not, with its objects. Raises WorldlineError where none is found."""

    def read(self, run: Run, bucket: Bucket, objects: Sequence[BucketObject], draft: Draft) -> Reading:
        """Read all that `fetch` needs, and write the small arrays into the draft; its scratch folder survives a kill.

        Raises WorldlineError for a damaged, contradictory or replaced object.
        """

    def foresee(
        self, run: Run, bucket: Bucket, objects: Sequence[BucketObject]
    ) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Episodes and pieces, from small objects alone; None where only whole objects could tell."""

    def with_frames(self, objects: Sequence[BucketObject]) -> Mapping[int, BucketObject]:
        """The objects that hold frames, by file number."""

    def blocks(
        self, item: BucketObject, bucket: Bucket, pieces: pd.DataFrame
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The rows of one object in ascending blocks: first row, frames (n, 84, 84). Those of `pieces` are all there.

        Nothing that was yielded may be trusted before the iterator ends without an error. Raises DamagedInTransit when
        another pass may help, ObjectReplaced or WorldlineError otherwise.
        """

    def arrays(self, record: "ReplayRecord", file: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """Actions and clipped rewards of the rows of one file, by row."""


def source_of(layout: str) -> Source:
    """The source that reads buckets of this layout. Raises UsageError for an unknown one."""
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS, "key layout of the storage profile")
    found: Source = importlib.import_module(LAYOUTS[layout]).SOURCE
    return found


def digest(objects: Iterable[BucketObject]) -> str:
    """sha256 of names, sizes, checksums and versions: while it stays, the bucket's folder is unchanged."""
    rows = [plain(item) for item in objects]
    return hashlib.sha256(canonical_json(sorted(rows, key=lambda row: row["name"])).encode()).hexdigest()


def plain(item: BucketObject) -> dict[str, Any]:
    """An object without its URL, as JSON keeps it, with `md5` only where the store publishes one."""
    return {key: value for key, value in asdict(item).items() if key != "url" and (key != "md5" or value)}


@dataclass(frozen=True)
class ReplayRecord:
    """One agent's replay as read back from its artefact. `bucket` is the one that still holds the frames."""

    ref: Ref
    source: Source
    bucket: Bucket
    game: str
    agent: int
    objects: tuple[BucketObject, ...]
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
            source=source_of(config.get("layout", "dqn_replay")),
            bucket=Bucket.of(root, store.profile, Mirror.of(root, store)),
            game=config["game"],
            agent=config["agent"],
            objects=tuple(BucketObject(url=f"{root}/{row['name']}", **row) for row in rows),
            episodes=pd.read_parquet(artefact.path(EPISODES)),
            pieces=pd.read_parquet(artefact.path(PIECES)),
            small=artefact.path(SMALL),
        )

    def mirror_frames(self) -> None:
        """Copy the objects with frames from their bucket into the mirror; a bucket without a mirror has none to copy.

        The copy can be resumed. Raises ObjectReplaced when the bucket holds another version than was fetched from.
        """
        frames = list(self.source.with_frames(self.objects).values())
        if self.bucket.mirror is not None:
            download(self.bucket, frames, f"Mirror frames {self.game}/{self.agent}", pinned=True)


def write_record(path: Callable[[str], Path], found: Reading) -> None:
    """Write the files that are the same for all sources to `path(name)`. The same input gives the same bytes."""
    path(OBJECTS).write_text(json.dumps([plain(item) for item in found.objects], indent=1) + "\n")
    found.episodes.to_parquet(path(EPISODES), index=False)
    found.pieces.to_parquet(path(PIECES), index=False)
    found.facts.to_parquet(path(FACTS), index=False)


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


# ---- into a trajectory file ----


def plan_extraction(record: ReplayRecord, pieces: pd.DataFrame, edges: NDArray[np.int64]) -> list[ExtractionPlan]:
    """What is wanted of each file of one agent, ascending. pieces: see `downsample.place_pieces`.

    Raises WorldlineError when the list lacks a file.
    """
    there, plans = record.source.with_frames(record.objects), []
    for file in sorted(set(pieces["file"].tolist())):
        if (item := there.get(file)) is None:
            raise WorldlineError(f"{record.ref} lists no file {file}: delete that artefact and make it again")
        mine = pieces[pieces["file"] == file]
        plans.append(ExtractionPlan(item, partial(record.source.blocks, item, record.bucket, mine), mine, edges))
    return plans


def edge_slots(drawn: pd.DataFrame) -> NDArray[np.int64]:
    """The slots of every episode's first and last frame, sorted. Their frames are compared after writing."""
    firsts = drawn["slot"].to_numpy()
    return np.unique(np.concatenate([firsts, firsts + drawn["length"].to_numpy() - 1]))


def copy_small_arrays(record: ReplayRecord, pieces: pd.DataFrame, writer: TrajectoryWriter) -> None:
    """Write actions, rewards and origins of one agent's drawn episodes, file by file, in few writes."""
    for file in sorted(set(pieces["file"].tolist())):
        mine, (actions, rewards) = pieces[pieces["file"] == file], record.source.arrays(record, file)
        counts = (mine["stop"] - mine["start"]).to_numpy()
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows, slots = (np.repeat(mine[name].to_numpy(), counts) + within for name in ("start", "slot"))
        source = np.empty((len(rows), 3), np.int32)
        source[:, 0], source[:, 1], source[:, 2] = record.agent, file, rows
        columns = {"actions": actions[rows], "rewards": rewards[rows], "source_rows": source}
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
