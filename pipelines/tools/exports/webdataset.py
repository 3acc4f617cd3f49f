"""Ready segments in a fixed random order as tar shards, `{Game}.webdataset/` (see replay/shards.py).

At stride 4 and length 8 every frame is written twice. Frames are gzip'd unless told otherwise.
Measured on Seaquest: 1,500 segments per CPU second, reading back included; 3.5 kB a segment, 58 kB uncompressed.
Run: `worldline export trajectories trajectories/Pong --to webdataset --out DIR`.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.limits import Seed, Size
from pipelines.batches.loader import flat_rows
from pipelines.batches.segments import Segmentation
from pipelines.batches.shards import Segment, ShardSet, export_order, shard_name, write_index, write_shard
from pipelines.environments.actions import to_shared
from pipelines.episodes.trajectories import Trajectories
from pipelines.progress import Advance
from pipelines.store.stage_config import require
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.target import Origin


@dataclass(frozen=True)
class Webdataset:
    """An `Export` of one game's segments: `seed` gives their order, `per_shard` how many one file holds."""

    source: Trajectories
    segments: Segmentation
    seed: Seed = 0
    per_shard: Size = 512
    compress: bool = True

    form: ClassVar[str] = "webdataset"
    unit: ClassVar[str] = "segments"

    def __post_init__(self) -> None:
        require(self, "")

    @property
    def name(self) -> str:
        return f"{self.source.game}.webdataset"

    @property
    def size(self) -> int:
        return len(self.segments)

    @property
    def options(self) -> dict[str, Any]:
        cut = self.segments
        return {
            "length": cut.length,
            "stride": cut.stride,
            "padding": cut.padding,
            "seed": self.seed,
            "per_shard": self.per_shard,
            "compress": self.compress,
        }

    @property
    def counts(self) -> dict[str, int]:
        return {"segments": len(self.segments), "transitions": len(self.source)}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        path.mkdir()
        shards = []
        for number, (first, chosen) in enumerate(self._parts()):
            cut = self._cut(chosen, advance)
            shards.append(write_shard(path / shard_name(number), first, cut, self.source.game, self.compress))
        facts = {
            "game": self.source.game,
            **self.options,
            "frame": self.source.frame_shape,
            "rewards": "clipped" if np.abs(self.source.rewards).max(initial=0) <= 1 else "raw",
            "episode_steps": np.diff(self.source.episode_starts).tolist(),
        }
        write_index(path, shards, {**facts, "worldline": origin.record()})

    def read_back(self, path: Path, advance: Advance) -> None:
        export = ShardSet(path)
        for number, (_, chosen) in enumerate(self._parts()):
            found = (export.unpack(packed) for packed in export.load(number))
            for expected, segment in zip(self._cut(chosen, advance), found, strict=True):
                for entry in fields(Segment):
                    if not np.array_equal(getattr(expected, entry.name), getattr(segment, entry.name)):
                        raise differs(f"{entry.name} of {shard_name(number)}")

    @functools.cached_property
    def _source_rows(self) -> NDArray[np.int32]:
        """(N, 3), kept: reading eight of them unpacks 65,536."""
        return self.source.source_rows(0, len(self.source))

    def _parts(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Of each shard: the number of its first segment, and its rows of the index (b, 3)."""
        order = export_order(len(self.segments), self.seed)
        for first in range(0, len(order), self.per_shard):
            yield first, self.segments[order[first : first + self.per_shard]]

    def _cut(self, chosen: NDArray[np.int64], advance: Advance) -> Iterator[Segment]:
        """The segments of index rows (b, 3), one by one; padding is zeros."""
        source, length = self.source, self.segments.length
        rows, real = flat_rows(chosen, source.episode_starts, length)  # (b, T)
        actions = to_shared(source.game, source.actions[rows]) * real
        for place, (episode, start, _) in enumerate(chosen.tolist()):
            row, mask = rows[place], real[place]
            frames = np.zeros((length, *source.frame_shape), np.uint8)
            frames[mask] = source.frames(int(row[mask][0]), int(row[mask][-1]) + 1)
            yield Segment(
                frames,
                actions[place],
                source.rewards[row] * mask,
                source.terminals[row] * mask,
                mask,
                self._source_rows[row] * mask[:, None],
                episode,
                start,
            )
            advance()
