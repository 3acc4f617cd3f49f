"""Batches of segments, the same for a given (seed, step) whatever ran before: resuming needs no state but the step.

`SegmentBatch` is what every loader gives, whatever it reads from; a `Source` is one game of it. A game's segments are
permuted anew every epoch; samples come from the games in turn, so that equal shares are exact. A rank gathers only its
own rows of the one global batch. Frames come from the trajectories' file, or from memory when they fit `preload_bytes`;
`webdataset_reader.py` reads them from shards instead. `pipelines.training.prefetch` reads ahead in worker processes.

Shape letters: B batch, b rows of it, T steps of a segment, H and W pixels, K tokens per frame, N transitions,
S segments, n single frames. Frames are as the trajectories hold them: grey, or RGB with a last axis of 3.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.segments import Segmentation, last_episode
from pipelines.environments.actions import to_shared
from pipelines.environments.registry import game_id
from pipelines.episodes.trajectories import TrajectoryReader
from pipelines.errors import WorldlineError

if TYPE_CHECKING:
    from pipelines.batches.streamed_tokens import StreamedTokens


@dataclass(frozen=True)
class SegmentBatch:
    """Padding steps are zeros with mask False. Actions are numbered as the game's spaces, games as the registry."""

    frames_BTHW: NDArray[np.uint8] | None  # (B, T, H, W), or (B, T, H, W, 3) of RGB
    tokens_BTK: NDArray[np.int64] | None
    actions_BT: NDArray[Any]  # int64, or (B, T, A) float32 where an action is A numbers
    rewards_BT: NDArray[np.float32]
    ends_BT: NDArray[np.uint8]  # true game over only, time-outs are 0
    mask_BT: NDArray[np.bool_]
    games_B: NDArray[np.int64]


@dataclass(frozen=True)
class FrameBatch:
    """Single frames, for the tokenizer."""

    frames_nHW: NDArray[np.uint8]  # (n, H, W), or (n, H, W, 3) of RGB
    games_n: NDArray[np.int64]
    returns_n: NDArray[np.float32] | None = None  # what each frame's episode still brought, discounted


class Source(Protocol):
    """One game that is learned from, wherever its segments lie: what a training asks of it beside its batches."""

    @property
    def name(self) -> str:
        """The game's name."""

    @property
    def game(self) -> int:
        """The game's id in the registry."""

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(H, W), or (H, W, 3) of RGB."""

    @property
    def clipped(self) -> bool:
        """Whether all rewards are within -1 and 1."""

    @property
    def episodes(self) -> int:
        """How many there are in all, held-out ones included."""

    def spread(self, count: int) -> NDArray[np.uint8]:
        """(n, H, W) or (n, H, W, 3): at most `count` frames, spread over the steps that training sees."""

    def longest(self, episodes: int) -> int:
        """The most steps that a window of the last `episodes` (of 0: the last one) can have."""

    def windows(self, episodes: int, steps: int, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Frames (P, steps, H, W) and actions (P, steps): windows within one of the last `episodes`, of 0 in the last.

        P is `count`, or as many as there are. Actions are numbered as the game's spaces. Raises WorldlineError where
        no episode has so many steps.
        """


class BatchSource(Protocol):
    """Batches as a pure function of the step, so that workers, ranks and resumed runs agree. May be pickled."""

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Any:
        """One rank's rows (`rank_rows`) of the batch of a step: a SegmentBatch or FrameBatch."""

    def close(self) -> None:
        """Let go of files; the next batch opens them again. Called before a fork."""


def rank_rows(count: int, rank: int, world: int) -> slice:
    """The rows of a batch of `count` that one of `world` ranks takes. In order of rank they are the whole batch.

    Raises ValueError for a rank that is not below `world`, and for more ranks than rows.
    """
    if not 0 <= rank < world:
        raise ValueError(f"Rank {rank} of {world}: ranks are numbered 0 to {world - 1}")
    if world > count:
        raise ValueError(f"A batch of {count} cannot be shared by {world} ranks: make it larger or take fewer ranks")
    return slice(rank * count // world, (rank + 1) * count // world)


def widened(actions: NDArray[Any]) -> NDArray[Any]:
    """Numbers of actions as int64, as networks read them; actions that are numbers themselves as they are."""
    return actions.astype(np.int64) if actions.dtype.kind in "iu" else actions


def masked(actions: NDArray[Any], real_bT: NDArray[np.bool_]) -> NDArray[Any]:
    """Actions (b, T) or (b, T, A), `widened`, with zeros where a step is padding."""
    return widened(actions) * (real_bT if actions.ndim == real_bT.ndim else real_bT[..., None])


def samples(step: int, count: int, sources: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each of the `count` samples of a step: its source, and how many samples that source gave before it.

    Both (count,) int64. Samples go round the `sources` in turn, however they are cut into batches, so that equal shares
    are exact at any step.
    """
    nths, slots = np.divmod(step * count + np.arange(count), sources)
    return slots, nths


@dataclass(frozen=True)
class SegmentSource:
    """One game's segments over its trajectories, with its tokens once they exist.

    Episodes behind the last one that has a segment are never drawn from: so training is kept from held-out ones.
    Raises ValueError where segments or tokens are of other trajectories, or where there is no segment.
    """

    trajectories: TrajectoryReader
    segments: NDArray[np.int64] | Segmentation  # (S, 3): episode, start, end; a table, or computed when asked for
    tokens_NK: "NDArray[np.uint16] | StreamedTokens | None" = None

    def __post_init__(self) -> None:
        game, rows = self.trajectories.game, len(self.trajectories)
        if not len(self.segments):
            raise ValueError(f"{game} has no segment: cut its trajectories first")
        if self.tokens_NK is not None and len(self.tokens_NK) != rows:
            raise ValueError(f"{game} has {len(self.tokens_NK)} token rows for {rows} transitions: encode it again")
        if last_episode(self.segments) >= self.trajectories.num_episodes:
            raise ValueError(f"{game}'s segments name episodes it does not have: they are of other trajectories")

    @functools.cached_property
    def actions(self) -> NDArray[Any]:
        """(N,) uint8 numbered as the game's spaces, or (N, A) float32 where an action is A numbers."""
        stored = self.trajectories.actions
        return to_shared(self.trajectories.game, stored) if stored.ndim == 1 else stored

    @functools.cached_property
    def rows(self) -> int:
        """Transitions up to the end of the last episode that has a segment."""
        return int(self.trajectories.episode_starts[last_episode(self.segments) + 1])

    @property
    def name(self) -> str:
        """The game's name."""
        return self.trajectories.game

    @functools.cached_property
    def game(self) -> int:
        """The game's id in the registry."""
        return game_id(self.trajectories.game)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(H, W), or (H, W, 3) of RGB."""
        return self.trajectories.frame_shape

    @property
    def clipped(self) -> bool:
        """Whether all rewards are within -1 and 1."""
        return float(np.abs(self.trajectories.rewards).max(initial=0)) <= 1

    @property
    def episodes(self) -> int:
        """How many there are in all, held-out ones included."""
        return self.trajectories.num_episodes

    def spread(self, count: int) -> NDArray[np.uint8]:
        """(n, H, W) or (n, H, W, 3): at most `count` frames, spread evenly over the episodes that training sees."""
        rows = np.unique(np.linspace(0, self.rows - 1, count).astype(np.int64))
        return np.stack([self.trajectories.frames(row, row + 1)[0] for row in rows.tolist()])

    def longest(self, episodes: int) -> int:
        """See `Source`."""
        return int(np.diff(self.trajectories.episode_starts[-max(episodes, 1) - 1 :]).max())

    def windows(self, episodes: int, steps: int, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """See `Source`; drawn by the seed from all there are."""
        data = self.trajectories
        starts = data.episode_starts[-max(episodes, 1) - 1 :]
        firsts = np.concatenate([np.arange(first, last - steps + 1) for first, last in itertools.pairwise(starts)])
        if not len(firsts):
            raise WorldlineError(
                f"The last episodes of {data.game} have {np.diff(starts).tolist()} steps, sight is measured on windows "
                f"of {steps}: raise loop.holdout_episodes"
            )
        chosen = np.sort(np.random.default_rng([seed, self.game]).permutation(firsts)[:count])
        frames = np.stack([data.frames(int(row), int(row) + steps) for row in chosen])
        return frames, widened(self.actions[chosen[:, None] + np.arange(steps)])


class SegmentLoader:
    """`batch(step)` over one or more games: a `BatchSource` of SegmentBatch."""

    def __init__(
        self,
        sources: Sequence[SegmentSource],
        batch_size: int,
        seed: int,
        length: int = 8,
        with_frames: bool = True,
        preload_bytes: int = 0,
    ) -> None:
        """`preload_bytes`: keep all games' frames in memory when they take no more than this, uncompressed.

        Raises ValueError for no source, and for games whose frames are not of one shape.
        """
        if not sources or batch_size < 1 or length < 1:
            raise ValueError(
                f"{len(sources)} sources, batches of {batch_size}, length {length}: all must be at least 1"
            )
        self.sources, self.batch_size, self.seed = list(sources), batch_size, seed
        self.length, self.with_frames = length, with_frames
        shapes = {source.trajectories.frame_shape for source in sources}
        if len(shapes) > 1:
            raise ValueError(f"Frames of {', '.join(map(str, sorted(shapes)))} share no batch: give games of one shape")
        self._frame_shape = shapes.pop()
        self._memory: list[NDArray[np.uint8]] | None = None
        if sum(source.rows for source in sources) * math.prod(self._frame_shape) <= preload_bytes:
            self._memory = [source.trajectories.frames(0, source.rows) for source in sources]
        self._permutations: dict[tuple[int, int], NDArray[np.int32]] = {}

    def batch(self, step: int, rank: int = 0, world: int = 1) -> SegmentBatch:
        """The batch of one step, counted from 0, or one rank's rows of it: `rank_rows(batch_size, rank, world)`."""
        mine = rank_rows(self.batch_size, rank, world)
        slot_b, nth_b = (column[mine] for column in samples(step, self.batch_size, len(self.sources)))
        shape = (len(slot_b), self.length)
        frames = np.zeros((*shape, *self._frame_shape), np.uint8) if self.with_frames else None
        tokens = self._token_space(shape)
        like = widened(self.sources[0].actions[:0])
        actions, rewards = np.zeros((*shape, *like.shape[1:]), like.dtype), np.zeros(shape, np.float32)
        ends, mask = np.zeros(shape, np.uint8), np.zeros(shape, np.bool_)
        games = np.array([source.game for source in self.sources], np.int64)[slot_b]
        for slot, source in enumerate(self.sources):
            into = np.flatnonzero(slot_b == slot)  # rows of the batch that this game fills
            if not len(into):
                continue
            chosen = source.segments[self._shuffled(slot, nth_b[into])]  # (rows, 3)
            rows, real = flat_rows(chosen, source.trajectories.episode_starts, self.length)  # (rows, T)
            mask[into] = real
            actions[into] = masked(source.actions[rows], real)
            rewards[into] = source.trajectories.rewards[rows] * real
            ends[into] = source.trajectories.terminals[rows] * real
            if tokens is not None and source.tokens_NK is not None:
                tokens[into] = source.tokens_NK[rows] * real[:, :, None]
            if frames is not None:
                self._gather_frames(slot, rows, real, into, frames)
        return SegmentBatch(frames, tokens, actions, rewards, ends, mask, games)

    def frames_batch(self, step: int, n: int, rank: int = 0, world: int = 1) -> FrameBatch:
        """Single frames of a step, drawn uniformly within each game: n, or one rank's share of them."""
        mine = rank_rows(n, rank, world)
        slot_n = samples(step, n, len(self.sources))[0][mine]
        draws = np.random.default_rng([self.seed, 1, step]).random(n)[mine]
        frames = np.empty((len(slot_n), *self._frame_shape), np.uint8)
        for slot, source in enumerate(self.sources):
            into = np.flatnonzero(slot_n == slot)
            rows = (draws[into] * source.rows).astype(np.int64)
            if self._memory is not None:
                frames[into] = self._memory[slot][rows]
                continue
            for place, row in zip(into.tolist(), rows.tolist(), strict=True):
                frames[place] = source.trajectories.frames(row, row + 1)[0]
        return FrameBatch(frames, np.array([source.game for source in self.sources], np.int64)[slot_n])

    def close(self) -> None:
        """Let go of the trajectories' files; the next batch opens them again."""
        for source in self.sources:
            source.trajectories.close()

    def _shuffled(self, slot: int, nths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn running numbers of samples into segments: permutation `epoch` of the game, entry `place`."""
        epochs, places = np.divmod(nths, len(self.sources[slot].segments))
        found = np.empty(len(nths), np.int64)
        for epoch in np.unique(epochs).tolist():
            found[epochs == epoch] = self._permutation(slot, epoch)[places[epochs == epoch]]
        return found

    def _permutation(self, slot: int, epoch: int) -> NDArray[np.int32]:
        """Of the epochs of a game, the newest two are kept: a batch may span both."""
        kept = self._permutations
        if (slot, epoch) not in kept:
            source = self.sources[slot]
            for old in [key for key in kept if key[0] == slot and abs(key[1] - epoch) > 1]:
                kept.pop(old, None)
            rng = np.random.default_rng([self.seed, 0, source.game, epoch])
            kept[slot, epoch] = rng.permutation(len(source.segments)).astype(np.int32)  # 10 MB for 10 M transitions
        return kept[slot, epoch]

    def _token_space(self, shape: tuple[int, int]) -> NDArray[np.int64] | None:
        widths = {None if source.tokens_NK is None else source.tokens_NK.shape[1] for source in self.sources}
        if len(widths) != 1:
            raise ValueError(f"The games' token rows have widths {widths}: encode all with one tokenizer")
        width = widths.pop()
        return None if width is None else np.zeros((*shape, width), np.int64)

    def _gather_frames(
        self,
        slot: int,
        rows: NDArray[np.int64],
        real: NDArray[np.bool_],
        into: NDArray[np.int64],
        frames: NDArray[np.uint8],
    ) -> None:
        if self._memory is not None:
            found = self._memory[slot][rows]  # (b, T, H, W) or (b, T, H, W, 3)
            found[~real] = 0
            frames[into] = found
            return
        trajectories = self.sources[slot].trajectories
        for place, row, valid in zip(
            into.tolist(), rows, real, strict=True
        ):  # one read decodes a segment's chunks once
            if valid.any():
                steps = np.flatnonzero(valid)
                frames[place, steps[0] : steps[-1] + 1] = trajectories.frames(row[steps[0]], row[steps[-1]] + 1)


@dataclass(frozen=True)
class FrameLoader:
    """`n` single frames a step of the games of a segment loader: a `BatchSource` of FrameBatch."""

    loader: SegmentLoader
    n: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> FrameBatch:
        """The frames of one step, or one rank's share of them."""
        return self.loader.frames_batch(step, self.n, rank, world)

    def close(self) -> None:
        """Let go of the trajectories' files."""
        self.loader.close()


def flat_rows(
    segments: NDArray[np.int64], episode_starts: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat rows (b,T) of segments (b,3), and which of them are real; padding repeats an edge row of the episode."""
    first, last = episode_starts[segments[:, 0]], episode_starts[segments[:, 0] + 1] - 1
    wanted = (first + segments[:, 1])[:, None] + np.arange(length)
    rows = np.clip(wanted, first[:, None], last[:, None])
    return rows, rows == wanted
