"""Whole episodes put together again from the segments of a webdataset export, whatever order they lie in.

Every step of an episode is in some segment when the stride of the export was at most its length; most are in several,
which must agree. Frames are gathered on a disk, so memory stays small; a terminal that is missing means a time-out.
Letters: N steps of a game, E episodes, T steps of a segment, H, W pixels.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.shards import Segment, ShardSet
from pipelines.environments.registry import to_own
from pipelines.episodes.trajectories import FlatEpisodes, require_sound
from pipelines.errors import WorldlineError
from pipelines.progress import Advance

LONGEST = 1 << 20  # steps of an episode; Dopamine stops at 27,000


class ShardEpisodes(FlatEpisodes):
    """A `TrajectoryReader` of an export, gathered into the file `aside`, which its user deletes.

    `advance(n)` is called after every n segments, of which each comes twice. Raises WorldlineError for what no export
    writes: segments that contradict each other, or that leave out a step or an episode.
    """

    def __init__(self, export: ShardSet, aside: Path, advance: Advance = lambda amount: None) -> None:
        self._export, self._advance = export, advance
        self.game, self.frame_shape, self.lineage = export.game, export.frame_shape, export.lineage
        options = self.lineage.get("options")
        stride = options.get("stride") if isinstance(options, dict) else None
        if isinstance(stride, int) and stride > export.length:  # the last steps of an episode may then be in none
            raise self._refusal(f"leaves out steps: {export.length} of every {stride} are in it")
        lengths = self._lengths()
        self.episode_starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        total = int(self.episode_starts[-1])
        self.actions: NDArray[np.uint8] = np.zeros(total, np.uint8)
        self.rewards: NDArray[np.float32] = np.zeros(total, np.float32)
        self.terminals: NDArray[np.uint8] = np.zeros(total, np.uint8)
        self._sources = np.zeros((total, 3), np.int32)
        self._frames = np.memmap(aside, np.uint8, "w+", shape=(total, *self.frame_shape))
        self._fill()
        last = self.episode_starts[1:] - 1
        self.truncations: NDArray[np.uint8] = np.zeros(total, np.uint8)
        self.truncations[last] = self.terminals[last] == 0
        require_sound(self, export.url)

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, H, W) or (stop-start, H, W, 3) uint8: frames start .. stop-1."""
        return np.asarray(self._frames[start:stop])

    def source_rows(self, start: int, stop: int) -> NDArray[np.int32]:
        """(stop-start, 3) int32: agent, log file n and row that each transition came from."""
        return self._sources[start:stop]

    def close(self) -> None:
        """Nothing is open."""

    def _packed(self) -> Iterator[tuple[bytes, bytes]]:
        for shard in range(len(self._export.shards)):
            for packed in self._export.load(shard):
                yield packed
                self._advance(1)

    def _lengths(self) -> list[int]:
        """Steps of every episode, from the segments' own words alone."""
        found: dict[int, int] = {}
        for _, words in self._packed():
            try:
                steps = json.loads(words)
                episode, stop = int(steps["episode"]), int(steps["start"]) + int(np.flatnonzero(steps["mask"])[-1]) + 1
            except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
                raise self._refusal(f"has a segment of no step ({error})") from error
            found[episode] = max(found.get(episode, 0), stop)
        if sorted(found) != list(range(len(found))) or not found or max(found.values()) > LONGEST:
            raise self._refusal(f"numbers its {len(found)} episodes otherwise than 0 to {len(found) - 1}, or too long")
        lengths = [found[episode] for episode in range(len(found))]
        if sum(lengths) > (most := len(self._export) * self._export.length):
            raise self._refusal(f"leaves out steps: its segments have {most:,} of {sum(lengths):,}")
        return lengths

    def _fill(self) -> None:
        """Every real step of every segment goes to its row; one that was there already must be the same."""
        seen = np.zeros(len(self._frames), np.bool_)
        for packed in self._packed():
            segment = self._export.unpack(packed)
            first = int(self.episode_starts[segment.episode]) + segment.start
            real = np.flatnonzero(segment.mask)
            rows = first + real
            if first + real[0] < self.episode_starts[segment.episode] or (np.diff(real) != 1).any():
                raise self._refusal(f"has a segment of episode {segment.episode} with a hole or before its start")
            again = seen[rows]
            for theirs, ours in self._columns(segment, real):
                if not np.array_equal(ours[rows[again]], theirs[again]):
                    raise self._refusal(f"contradicts itself in episode {segment.episode}")
                ours[rows] = theirs
            seen[rows] = True
        if not seen.all():
            raise self._refusal(f"leaves out {int((~seen).sum()):,} of {len(seen):,} steps")

    def _columns(self, segment: Segment, real: NDArray[np.int64]) -> Iterator[tuple[NDArray, NDArray]]:
        yield to_own(self.game, segment.actions[real]).astype(np.uint8), self.actions
        yield segment.rewards[real], self.rewards
        yield segment.ends[real], self.terminals
        yield segment.source[real], self._sources
        yield segment.frames[real], self._frames

    def _refusal(self, what: str) -> WorldlineError:
        return WorldlineError(f"{self._export.url} {what}: export it again, with a stride of at most its length")
