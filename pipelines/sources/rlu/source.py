"""RL Unplugged's episodes as a source: shards that hold everything of whole episodes, frames and all.

`fetch` reads each shard whole, as only its end tells whether it is right; `downsample` reads those again that hold
drawn episodes, and decodes their frames alone. small.h5 holds the rows of F shards, N in all, with those
that hold nothing but a terminal frame: shards (F,), starts (F+1,), actions (N,) uint8, rewards (N,) raw and clipped
(N,) float32; attribute `shifted`: a reward stands one row behind its action. episodes.parquet has `raw_return` too.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.download import download
from pipelines.bucket.retry import Absent, Refused
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import track
from pipelines.sources.inflate import inflated
from pipelines.sources.rlu.episodes import iter_episodes
from pipelines.sources.rlu.listing import GAMES, agents_among, list_objects, shard_of, shards_of
from pipelines.sources.rlu.png import decode_frames
from pipelines.sources.rlu.shards import check_shards, read_all, tables, write_rows
from pipelines.sources.source import SMALL, Reading, ReplayRecord, Run, Source
from pipelines.store.artefact import Draft

BLOCK = 512  # frames


class RlUnplugged:
    """See `Source`."""

    holds = "GAME/run_AGENT-00000-of-00050"
    at_once = 2  # an episode is in memory as a whole: 100 MB for one of 27,000 rows

    def list_objects(self, bucket: Bucket, run: Run) -> list[BucketObject]:
        """Some shards may be missing; the checks of the artefact say so."""
        for name, given in (("compat", run.compat), ("keep_padding", run.keep_padding)):
            if given:
                raise UsageError(
                    f"fetch.{name} is {given}: it says how logs of DQN-Replay are read, and RL Unplugged has whole "
                    "episodes; leave it out"
                )
        return list_objects(bucket, run.game, run.agent)

    def probe(self, bucket: Bucket) -> tuple[Run, list[BucketObject]]:
        """Where the root may not be listed, one that the public bucket has."""
        run = Run("Pong", 1)
        try:
            game = next((name for name in sorted(bucket.contents("")) if name in GAMES), run.game)
            run = Run(game, next(iter(agents_among(bucket.contents(game))), run.agent))
        except (Absent, Refused):  # the listing of the shards says more
            pass
        return run, list_objects(bucket, run.game, run.agent)

    def read(self, run: Run, bucket: Bucket, objects: Sequence[BucketObject], draft: Draft) -> Reading:
        """Two shards at once. What is to be mirrored is mirrored first, so that the bucket is read once."""
        if run.mirror == "all" and bucket.mirror is not None:
            download(bucket, objects, f"Mirror shards {run}", pinned=True)
        pinned = [*objects]
        if bare := [at for at, item in enumerate(objects) if not bucket.is_verifiable(item)]:  # on this disk, likely
            with track(f"Checksums of {run}", total=len(bare), unit="shards") as advance:
                for at in bare:
                    pinned[at] = bucket.pinned(objects[at])
                    advance(1)
        with track(f"Read replay {run}", total=len(pinned), unit="shards") as advance:
            kept = read_all(pinned, bucket, draft.scratch, self.at_once, advance)
        evidence = write_rows(draft.path(SMALL), kept)
        found = tables(kept, run.agent, shards_of(pinned[0]), evidence)
        rows = int(found.facts["rows"].sum())
        return Reading(pinned, found.episodes, found.pieces, found.facts, rows, check_shards(found))

    def foresee(
        self, run: Run, bucket: Bucket, objects: Sequence[BucketObject]
    ) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Nothing: there are no small objects."""
        return None

    def with_frames(self, objects: Sequence[BucketObject]) -> Mapping[int, BucketObject]:
        """All shards by number."""
        return {shard_of(item): item for item in objects}

    def blocks(
        self, item: BucketObject, bucket: Bucket, pieces: pd.DataFrame
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The transitions of wanted episodes, 512 at a time."""
        wanted = dict(zip(pieces["start"].tolist(), pieces["stop"].tolist(), strict=True))
        with inflated(item, bucket) as stream:
            row = 0
            for episode in iter_episodes(stream, PurePosixPath(item.name).parts[0], item.url):
                stop = wanted.get(row, row)
                for first in range(row, stop, BLOCK):
                    pngs = episode.pngs[first - row : min(first + BLOCK, stop) - row]
                    yield first, decode_frames(pngs, f"{item.url}: episode {episode.episode}")
                row += len(episode)

    def arrays(self, record: ReplayRecord, file: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """Of one shard, rewards in the rows of their actions. Raises WorldlineError when it is absent."""
        with h5py.File(record.small, "r") as small:
            found = np.flatnonzero(small["shards"][:] == file)
            if len(found) != 1:
                raise WorldlineError(f"{record.ref} holds no shard {file}: delete that artefact and make it again")
            start, stop = small["starts"][int(found[0]) : int(found[0]) + 2].tolist()
            rewards = small["clipped"][start:stop]
            if small.attrs["shifted"]:
                rewards = np.append(rewards[1:], np.float32(0))
            return small["actions"][start:stop], rewards


SOURCE: Source = RlUnplugged()
