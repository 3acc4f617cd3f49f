"""Batches from webdataset exports, near or behind a URL, the same for a given (seed, step) whatever ran before.

`shards.json` says how many segments each shard holds, so the order of all is computed and nothing is replayed to go on
from any step. A game's shards are put in a new order every epoch and read a few at a time (the shuffle buffer), whose
segments are mixed; every segment comes once an epoch. Each process keeps the shards that it is mixing in memory,
packed, so that a shard should be small (512 segments: 30 MB, gzip'd 2 MB).

Letters: S segments of a game, T steps of one, H, W pixels, P windows.
"""

import functools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.loader import FrameBatch, SegmentBatch, rank_rows, samples
from pipelines.batches.shard_cache import Ahead, ShardCache
from pipelines.batches.shards import Contents, Segment, ShardSet
from pipelines.environments.registry import game_id
from pipelines.errors import WorldlineError

SHUFFLE = 4096  # segments of a game that are mixed


@dataclass(frozen=True, eq=False)
class ShardSource:
    """One game's export as a `Source`. `kept`: its episodes from this one on are held out, and never learned from.

    shuffle: how many segments are mixed, in whole shards. cache: where shards of a bucket are kept for a while.
    """

    export: ShardSet
    kept: int
    cache: ShardCache
    shuffle: int = SHUFFLE

    @property
    def name(self) -> str:
        """The game's name."""
        return self.export.game

    @functools.cached_property
    def game(self) -> int:
        """The game's id in the registry."""
        return game_id(self.export.game)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(H, W), or (H, W, 3)."""
        return self.export.frame_shape

    @property
    def contents(self) -> Contents:
        """Which segment is of which episode."""
        return self.export.contents

    @property
    def clipped(self) -> bool:
        """Whether all rewards are within -1 and 1."""
        return self.contents.clipped

    @property
    def episodes(self) -> int:
        """How many the export was cut from, held-out ones included."""
        return self.contents.episodes

    @property
    def mixed(self) -> int:
        """How many shards are mixed."""
        return max(1, self.shuffle // max(shard.segments for shard in self.export.shards))

    @functools.cached_property
    def learned(self) -> NDArray[np.bool_]:
        """(S,) which segments may be learned from."""
        return self.contents.rows()[:, 0] < self.kept

    def spread(self, count: int) -> NDArray[np.uint8]:
        """(n, H, W) or (n, H, W, 3): a frame of each of the first `count` segments that may be learned from.

        An export has its segments in random order; the steps are taken in turn.
        """
        numbers = np.flatnonzero(self.learned)[:count]
        found = []
        for place, segment in enumerate(self.segments(numbers)):
            real = np.flatnonzero(segment.mask)
            found.append(segment.frames[real[place % len(real)]])
        return np.stack(found)

    def longest(self, episodes: int) -> int:
        """See `Source`: a window lies within a segment."""
        rows = self.contents.rows()
        of_last = rows[rows[:, 0] >= self.episodes - max(episodes, 1)]
        return int((of_last[:, 2] - np.maximum(of_last[:, 1], 0)).max(initial=0))

    def windows(self, episodes: int, steps: int, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Frames (P, steps, H, W) and actions (P, steps) of `count` windows of the last `episodes`, or as many as are.

        Those of as few segments as do, in the export's order, whatever the seed: each may lie in a shard of its own.
        Raises WorldlineError where no segment has so many steps.
        """
        rows, stride = self.contents.rows(), self.contents.cut.stride
        real = rows[:, 2] - np.maximum(rows[:, 1], 0)
        able = np.flatnonzero((rows[:, 0] >= self.episodes - max(episodes, 1)) & (real >= steps))
        per_segment = np.minimum(real[able] - steps + 1, stride)  # those after the stride are the next segment's too
        able = able[: 1 + int(np.searchsorted(np.cumsum(per_segment), count))]
        frames, actions = [], []
        for segment, first in zip(self.segments(able), np.maximum(-rows[able, 1], 0).tolist(), strict=True):
            for start in range(first, first + min(int(segment.mask.sum()) - steps + 1, stride)):
                frames.append(segment.frames[start : start + steps])
                actions.append(segment.actions[start : start + steps])
        if not frames:
            raise WorldlineError(
                f"The last episodes of {self.name} have no segment of {steps} steps, which sight is measured on: raise "
                "loop.holdout_episodes"
            )
        return np.stack(frames[:count]), np.stack(actions[:count]).astype(np.int64)

    def segments(self, numbers: NDArray[np.int64]) -> Iterator[Segment]:
        """The segments of these numbers, which must be in ascending order: each shard is read once."""
        shards = np.searchsorted(self.export.firsts, numbers, side="right") - 1
        for shard in np.unique(shards).tolist():
            packed = self.load(shard)
            for number in numbers[shards == shard].tolist():
                yield self.export.unpack(packed[number - int(self.export.firsts[shard])])

    def load(self, shard: int) -> list[tuple[bytes, bytes]]:
        """The packed segments of one shard, as `ShardSet.load`."""
        return self.export.load(shard, self.cache.read(self.export, shard))


class Epoch:
    """The order of one epoch of a game: its shards permuted, and the learned segments of `mixed` at a time mixed."""

    def __init__(self, source: ShardSource, seed: int, epoch: int) -> None:
        self._source, self._seed = source, [seed, 2, source.game, epoch]
        counts = np.add.reduceat(source.learned, source.export.firsts[:-1], dtype=np.int64)
        self._shards = np.random.default_rng(self._seed).permutation(len(counts))
        at = np.arange(0, len(counts), source.mixed)
        ends = np.cumsum(np.add.reduceat(counts[self._shards], at))
        self._firsts: NDArray[np.int64] = np.concatenate([[0], ends])  # (groups+1,)
        self._mixed: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def shards(self, group: int) -> list[int]:
        """Those that are mixed as one group; none behind the last."""
        mixed = self._source.mixed
        return self._shards[group * mixed : (group + 1) * mixed].tolist()

    def at(self, place: int) -> tuple[int, int]:
        """(group, number of the segment) at a place of the epoch, 0 .. len - 1."""
        group = int(np.searchsorted(self._firsts, place, side="right")) - 1
        if group not in self._mixed:
            firsts, learned = self._source.export.firsts, self._source.learned
            numbers = np.concatenate([np.arange(firsts[i], firsts[i + 1]) for i in self.shards(group)])
            mixed = np.random.default_rng([*self._seed, group]).permutation(numbers[learned[numbers]])
            self._mixed = {group: mixed}  # places are asked for in order, and any other one costs this again
        return group, int(self._mixed[group][place - self._firsts[group]])


class WebdatasetStream:
    """A `BatchSource` over one export a game, whose samples come from the games in turn.

    Raises ValueError for no source, and for exports of several lengths or frame shapes.
    """

    def __init__(self, sources: Sequence[ShardSource], batch_size: int, seed: int) -> None:
        lengths, shapes = {each.export.length for each in sources}, {each.frame_shape for each in sources}
        if not sources or batch_size < 1 or len(lengths) > 1 or len(shapes) > 1:
            raise ValueError(
                f"{len(sources)} exports of lengths {sorted(lengths)} and frames {sorted(shapes)}, batches of "
                f"{batch_size}: give at least one export, all of one length and frame shape, and at least 1"
            )
        self.sources, self.batch_size, self.seed, self.length = list(sources), batch_size, seed, lengths.pop()
        self._frame_shape = shapes.pop()
        self._epochs: dict[tuple[int, int], Epoch] = {}
        self._begin()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> SegmentBatch:
        """The batch of one step, counted from 0, or one rank's rows of it: `rank_rows(batch_size, rank, world)`."""
        mine = rank_rows(self.batch_size, rank, world)
        slot_b, nth_b = (column[mine] for column in samples(step, self.batch_size, len(self.sources)))
        shape = (len(slot_b), self.length)
        frames = np.empty((*shape, *self._frame_shape), np.uint8)
        actions, rewards = np.empty(shape, np.int64), np.empty(shape, np.float32)
        ends, mask = np.empty(shape, np.uint8), np.empty(shape, np.bool_)
        games = np.array([source.game for source in self.sources], np.int64)[slot_b]
        for row, (slot, nth) in enumerate(zip(slot_b.tolist(), nth_b.tolist(), strict=True)):
            segment = self._segment(slot, nth)
            frames[row], actions[row], rewards[row] = segment.frames, segment.actions, segment.rewards
            ends[row], mask[row] = segment.ends, segment.mask
        return SegmentBatch(frames, None, actions, rewards, ends, mask, games)

    def close(self) -> None:
        """Let go of the shards in memory, and of what is fetched ahead."""
        for ahead in self._ahead:
            ahead.close()
        self._begin()

    def _begin(self) -> None:
        self._loaded: list[OrderedDict[int, list[tuple[bytes, bytes]]]] = [OrderedDict() for _ in self.sources]
        self._ahead = [Ahead(source.cache) for source in self.sources]
        self._group = [(-1, -1) for _ in self.sources]

    def _segment(self, slot: int, nth: int) -> Segment:
        source = self.sources[slot]
        epoch, place = divmod(nth, len(self._epoch(slot, 0)))
        group, number = self._epoch(slot, epoch).at(place)
        if self._group[slot] != (epoch, group):
            self._group[slot] = (epoch, group)
            following = self._epoch(slot, epoch).shards(group + 1) or self._epoch(slot, epoch + 1).shards(0)
            self._ahead[slot].fetch(source.export, following)
        shard = int(np.searchsorted(source.export.firsts, number, side="right")) - 1
        segment = source.export.unpack(self._shard(slot, shard)[number - int(source.export.firsts[shard])])
        if segment.episode >= source.kept:
            raise WorldlineError(
                f"{source.export.url}/{source.export.shards[shard].name} holds a segment of episode {segment.episode} "
                "where shards.json has one that is learned from: export it again"
            )
        return segment

    def _epoch(self, slot: int, epoch: int) -> Epoch:
        """The first, which says how long all are, and the newest three are kept: a batch may span two."""
        if (slot, epoch) not in self._epochs:
            for old in [key for key in self._epochs if key[0] == slot and key[1] and abs(key[1] - epoch) > 1]:
                self._epochs.pop(old)
            self._epochs[slot, epoch] = Epoch(self.sources[slot], self.seed, epoch)
        return self._epochs[slot, epoch]

    def _shard(self, slot: int, shard: int) -> list[tuple[bytes, bytes]]:
        """Loaded once while it is being mixed."""
        loaded = self._loaded[slot]
        if shard not in loaded:
            while len(loaded) >= self.sources[slot].mixed + 1:  # a batch may straddle two groups
                loaded.popitem(last=False)
            loaded[shard] = self.sources[slot].load(shard)
        loaded.move_to_end(shard)
        return loaded[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_loaded", "_ahead", "_group")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._begin()


@dataclass(frozen=True)
class ShardFrames:
    """A `BatchSource` of single frames: a real step, drawn by the seed, of each segment of a stream.

    Uniform over a segment's steps, so that those at an episode's ends are drawn a little more often than others.
    """

    stream: WebdatasetStream

    def batch(self, step: int, rank: int = 0, world: int = 1) -> FrameBatch:
        """The frames of one step, or one rank's share of them."""
        count = self.stream.batch_size
        segments = self.stream.batch(step, rank, world)
        draws = np.random.default_rng([self.stream.seed, 3, step]).random(count)[rank_rows(count, rank, world)]
        first, real = segments.mask_BT.argmax(axis=1), segments.mask_BT.sum(axis=1)
        steps = first + (draws * real).astype(np.int64)
        assert segments.frames_BTHW is not None, "shards hold frames"
        return FrameBatch(segments.frames_BTHW[np.arange(len(steps)), steps], segments.games_B)

    def close(self) -> None:
        """Let go of the shards in memory."""
        self.stream.close()
