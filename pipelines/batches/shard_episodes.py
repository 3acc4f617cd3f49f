"""Whole episodes put together again from the segments of a webdataset export, whatever order they lie in.

Every step of an episode is in some segment when the stride of the export was at most its length; most are in several,
which must agree. Frames are gathered on a disk, so memory stays small; a terminal that is missing means a time-out.
Letters: N steps of a game, E episodes, T steps of a segment, H, W pixels.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.shards import LONGEST_EPISODE, Segment, ShardSet
from pipelines.environments.actions import to_own
from pipelines.episodes.trajectories import FlatEpisodes, require_sound
from pipelines.errors import WorldlineError
from pipelines.progress import Advance


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
        # A file, and no memory map: a disk that is full must be an error and not the end of the process.
        self._frames, self._bytes = aside.open("w+b", buffering=0), math.prod(self.frame_shape)
        self._frames.truncate(total * self._bytes)  # rows that no segment has filled yet can be read
        self._fill()
        last = self.episode_starts[1:] - 1
        self.truncations: NDArray[np.uint8] = np.zeros(total, np.uint8)
        self.truncations[last] = self.terminals[last] == 0
        require_sound(self, export.url)

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, H, W) or (stop-start, H, W, 3) uint8: frames start .. stop-1."""
        raw = os.pread(self._frames.fileno(), (stop - start) * self._bytes, start * self._bytes)
        return np.frombuffer(raw, np.uint8).reshape(stop - start, *self.frame_shape)

    def source_rows(self, start: int, stop: int) -> NDArray[np.int32]:
        """(stop-start, 3) int32: agent, log file n and row that each transition came from."""
        return self._sources[start:stop]

    def close(self) -> None:
        """Let go of the file, after which no frame can be read."""
        self._frames.close()

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
        if sorted(found) != list(range(len(found))) or not found or max(found.values()) > LONGEST_EPISODE:
            raise self._refusal(f"numbers its {len(found)} episodes otherwise than 0 to {len(found) - 1}, or too long")
        lengths = [found[episode] for episode in range(len(found))]
        if sum(lengths) > (most := len(self._export) * self._export.length):
            raise self._refusal(f"leaves out steps: its segments have {most:,} of {sum(lengths):,}")
        return lengths

    def _fill(self) -> None:
        """Every real step of every segment goes to its row; one that was there already must be the same."""
        seen = np.zeros(len(self), np.bool_)
        for packed in self._packed():
            segment = self._export.unpack(packed)
            low, real = int(self.episode_starts[segment.episode]), np.flatnonzero(segment.mask)
            first = low + segment.start + int(real[0])
            if first < low or (np.diff(real) != 1).any():
                raise self._refusal(f"has a segment of episode {segment.episode} with a hole or before its start")
            rows = slice(first, first + len(real))
            again, frames = seen[rows], segment.frames[real]
            for theirs, ours in self._columns(segment, real):
                if not np.array_equal(ours[rows][again], theirs[again]):
                    raise self._refusal(f"contradicts itself in episode {segment.episode}")
                ours[rows] = theirs
            if again.any() and not np.array_equal(self.frames(first, first + len(again))[again], frames[again]):
                raise self._refusal(f"contradicts itself in episode {segment.episode}")
            self._frames.seek(first * self._bytes)
            rest = memoryview(frames.tobytes())
            while len(rest):
                rest = rest[self._frames.write(rest) :]
            seen[rows] = True
        if not seen.all():
            raise self._refusal(f"leaves out {int((~seen).sum()):,} of {len(seen):,} steps")

    def _columns(self, segment: Segment, real: NDArray[np.int64]) -> Iterator[tuple[NDArray, NDArray]]:
        yield to_own(self.game, segment.actions[real]).astype(np.uint8), self.actions
        yield segment.rewards[real], self.rewards
        yield segment.ends[real], self.terminals
        yield segment.source[real], self._sources

    def _refusal(self, what: str) -> WorldlineError:
        return WorldlineError(f"{self._export.url} {what}: export it again, with a stride of at most its length")
