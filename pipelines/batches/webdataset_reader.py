"""Batches from webdataset exports, near or behind a URL, the same for a given (seed, step) whatever ran before.

No stage of ours reads exports; this is the reader for whoever trains from one without our store.

A game's shards are put in a new order every epoch and read `MIXED` at a time, their segments mixed; every segment comes
once an epoch. Each process reads a shard whole, checks its sha256 and keeps the shards it is mixing in memory,
packed: so every worker and rank reads all shards, and a shard should be small (512 segments: 30 MB, gzip'd 2 MB).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.loader import SegmentBatch, rank_rows, samples
from pipelines.batches.shards import ShardSet
from pipelines.environments.registry import game_id

MIXED = 8  # shards


class WebdatasetStream:
    """A `BatchSource` over one export a game, whose samples come from the games in turn.

    Raises ValueError for no export, and for exports of several lengths or frame shapes.
    """

    def __init__(self, exports: Sequence[ShardSet], batch_size: int, seed: int) -> None:
        lengths, shapes = {export.length for export in exports}, {export.frame_shape for export in exports}
        if not exports or batch_size < 1 or len(lengths) > 1 or len(shapes) > 1:
            raise ValueError(
                f"{len(exports)} exports of lengths {sorted(lengths)} and frames {sorted(shapes)}, batches of "
                f"{batch_size}: give at least one export, all of one length and frame shape, and at least 1"
            )
        self.exports, self.batch_size, self.seed, self.length = list(exports), batch_size, seed, lengths.pop()
        self._frame_shape = shapes.pop()
        self._orders: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._loaded: OrderedDict[tuple[int, int], list[tuple[bytes, bytes]]] = OrderedDict()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> SegmentBatch:
        """The batch of one step, counted from 0, or one rank's rows of it: `rank_rows(batch_size, rank, world)`."""
        mine = rank_rows(self.batch_size, rank, world)
        slot_b, nth_b = (column[mine] for column in samples(step, self.batch_size, len(self.exports)))
        shape = (len(slot_b), self.length)
        frames = np.empty((*shape, *self._frame_shape), np.uint8)
        actions, rewards = np.empty(shape, np.int64), np.empty(shape, np.float32)
        ends, mask = np.empty(shape, np.uint8), np.empty(shape, np.bool_)
        games = np.array([game_id(export.game) for export in self.exports], np.int64)[slot_b]
        for row, (slot, nth) in enumerate(zip(slot_b.tolist(), nth_b.tolist(), strict=True)):
            export = self.exports[slot]
            epoch, place = divmod(nth, len(export))
            number = int(self._order(slot, epoch)[place])
            shard = int(np.searchsorted(export.firsts, number, side="right")) - 1
            segment = export.unpack(self._shard(slot, shard)[number - int(export.firsts[shard])])
            frames[row], actions[row], rewards[row] = segment.frames, segment.actions, segment.rewards
            ends[row], mask[row] = segment.ends, segment.mask
        return SegmentBatch(frames, None, actions, rewards, ends, mask, games)

    def close(self) -> None:
        """Let go of the shards in memory."""
        self._loaded.clear()

    def _order(self, slot: int, epoch: int) -> NDArray[np.int64]:
        """(S,) the numbers of a game's segments in the order of one epoch; the newest two epochs are kept."""
        if (slot, epoch) not in self._orders:
            for old in [key for key in self._orders if key[0] == slot and abs(key[1] - epoch) > 1]:
                self._orders.pop(old)
            self._orders[slot, epoch] = epoch_order(
                self.exports[slot].firsts,
                np.random.default_rng([self.seed, 2, game_id(self.exports[slot].game), epoch]),
            )
        return self._orders[slot, epoch]

    def _shard(self, slot: int, shard: int) -> list[tuple[bytes, bytes]]:
        """Loaded once while it is being mixed; a batch may straddle two groups of shards."""
        if (slot, shard) not in self._loaded:
            while len(self._loaded) >= (MIXED + 1) * len(self.exports):
                self._loaded.popitem(last=False)
            self._loaded[slot, shard] = self.exports[slot].load(shard)
        self._loaded.move_to_end((slot, shard))
        return self._loaded[slot, shard]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": OrderedDict()}


def epoch_order(firsts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """(S,) every segment once: the shards of `firsts` (shards+1,) permuted, then mixed `MIXED` at a time."""
    shards = rng.permutation(len(firsts) - 1)
    groups = [shards[start : start + MIXED] for start in range(0, len(shards), MIXED)]
    return np.concatenate(
        [rng.permutation(np.concatenate([np.arange(firsts[i], firsts[i + 1]) for i in group])) for group in groups]
    )
