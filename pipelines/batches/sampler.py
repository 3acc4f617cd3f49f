"""Segments and single frames drawn with replacement from episodes that may still grow, by a named rule.

Where a stored data set is walked through in permutations (`loader.py`), experience changes while it is learned from. A
batch here is a function of seed, objective, step and the episodes there are (and, of rules that remember, of what was
drawn before), so that any number of workers and ranks, and a resumed run, draw alike.
Rules (`RULES`): "episodes" draws an episode, each as likely, then a step of it (IRIS, arXiv 2209.00588: steps of short
episodes are seen more often); "steps" draws a step, each as likely; "ends" draws as "episodes", but as if the last
whole segment stood there as often again as it has steps (APV, arXiv 2203.13880: what comes last is seen more often).
Those of `memory.MEMORIES` go by what was drawn before. The step drawn is the segment's first where padding is on the
right, and its last where it is on the left. Where it may be anywhere in a segment, each place is as likely, and padding
lies on both sides, or on the left alone again (Delta-IRIS, arXiv 2406.19320).
Letters: B segments, n frames, T steps, E episodes, N transitions, H and W pixels.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.loader import FrameBatch, SegmentBatch, flat_rows, masked, rank_rows
from pipelines.batches.memory import Drawn, Memory
from pipelines.environments.actions import network_actions
from pipelines.environments.registry import game_id
from pipelines.episodes.trajectories import OF_VIDEOS, TrajectoryReader
from pipelines.errors import WorldlineError

Rule = Callable[[NDArray[np.int64], NDArray[np.float64], int], Drawn]


def by_episode(lengths_E: NDArray[np.int64], draws_B2: NDArray[np.float64], least: int = 1) -> Drawn:
    """Episodes (B,), each that has steps as likely, and a step of each (B,), from uniform draws (B, 2) in [0, 1).

    lengths: of each episode the steps by which a segment of `least` real ones can be drawn.
    """
    able = np.flatnonzero(lengths_E)
    episodes = able[(draws_B2[:, 0] * len(able)).astype(np.int64)]
    return episodes, (draws_B2[:, 1] * lengths_E[episodes]).astype(np.int64)


def by_end(lengths_E: NDArray[np.int64], draws_B2: NDArray[np.float64], least: int = 1) -> Drawn:
    """The same, where the last step of each episode counts as 1 + `least` of them."""
    episodes, steps = by_episode(np.where(lengths_E, lengths_E + least, 0), draws_B2)
    return episodes, np.minimum(steps, lengths_E[episodes] - 1)


def by_step(lengths_E: NDArray[np.int64], draws_B2: NDArray[np.float64], least: int = 1) -> Drawn:
    """Episodes (B,) and steps in them (B,): every step of all episodes is as likely."""
    starts = np.concatenate([[0], np.cumsum(lengths_E)])
    rows = (draws_B2[:, 0] * starts[-1]).astype(np.int64)
    episodes = np.searchsorted(starts, rows, side="right") - 1
    return episodes, rows - starts[episodes]


def returns_at(reader: TrajectoryReader, rows_n: NDArray[np.int64], discount: float) -> NDArray[np.float32]:
    """sum_k discount^k r_{t+k} to the end of each row's episode, or to what it has so far: (n,).

    What lies so far ahead that it counts less than a millionth is left out.
    """
    starts, rewards = reader.episode_starts, reader.rewards
    ends_n = starts[np.searchsorted(starts, rows_n, side="right")]
    ahead = len(rewards) if discount >= 1 else int(np.ceil(np.log(1e-6) / np.log(max(discount, 1e-6))))
    weights = discount ** np.arange(min(ahead, int((ends_n - rows_n).max())))
    parts = (rewards[row : min(end, row + ahead)] for row, end in zip(rows_n, ends_n, strict=True))
    return np.array([np.dot(part, weights[: len(part)]) for part in parts], np.float32)


RULES: Mapping[str, Rule] = {"episodes": by_episode, "steps": by_step, "ends": by_end}


@dataclass(frozen=True)
class Sampler:
    """What an objective draws: `count` rows a step from `reader`, of `length` steps, by a rule of RULES.

    name: the objective's; each draws numbers of its own. padding: "right", "left" or "both", where the step drawn lies
    anywhere; on the left it does so where `anywhere` says so, and the last step is real nevertheless. kept: the first
    episodes, the only ones that are drawn from; None for all. remembers: what draws in place of the rule, if anything.
    least: real steps that every segment has that a rule draws, where an episode has as many (REM: none is drawn whose
    every step is context).
    """

    reader: TrajectoryReader
    name: str
    count: int
    seed: int
    length: int = 1
    padding: str = "right"
    rule: str = "episodes"
    kept: int | None = None
    memory: NDArray[np.uint8] | None = field(default=None, repr=False)  # all frames (N, H, W) or (N, H, W, 3)
    remembers: Memory | None = None
    least: int = 1
    anywhere: bool = False

    @cached_property
    def actions(self) -> NDArray[Any]:
        """As networks read them: (N,) int64, or (N, A) float32. Of videos, which tell none, zeros."""
        if self.reader.game == OF_VIDEOS:
            return np.zeros(len(self.reader), np.int64)
        return network_actions(self.reader.game, self.reader.actions)

    @cached_property
    def game(self) -> int:
        """The game's number; videos are of none, and have the first."""
        return 0 if self.reader.game == OF_VIDEOS else game_id(self.reader.game)

    def segments(self, step: int) -> NDArray[np.int64]:
        """(count, 3) int64 of a step: episode, start, end; steps outside the episode are padding.

        Raises WorldlineError where there is no episode yet, or none that is long enough.
        """
        starts = self.reader.episode_starts
        lengths_E = np.diff(starts)[: self.kept]
        if not len(lengths_E):
            raise WorldlineError(f"There is no episode of {self.reader.game} to draw from: play, or give longer data")
        able_E = np.maximum(lengths_E - (self.least - 1), 0)
        if not able_E.any() and self.reader.game == OF_VIDEOS:
            raise WorldlineError(
                f"No video that is learned from has {self.least} frames: lower pretrain_videos.segment, or give longer "
                "videos"
            )
        if not able_E.any():
            raise WorldlineError(
                f"No episode of {self.reader.game} has {self.least} steps: play more before this is practised "
                "(learn.collect.steps, or a later start), or give data of longer episodes"
            )
        if self.remembers is not None:
            episodes, steps = self.remembers.draw(step, self.count, self.stream)
        else:
            episodes, steps = RULES[self.rule](able_E, self.stream(step).random((self.count, 2)), self.least)
            if self.padding == "left":
                steps = steps + self.least - 1
        firsts = self._firsts(steps, lengths_E[episodes], step)
        return np.stack([episodes, firsts, firsts + self.length], axis=1)

    def _firsts(self, steps: NDArray[np.int64], lengths: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Where segments begin (B,) that hold these steps (B,) of episodes of these lengths (B,)."""
        if self.padding == "right":
            return steps
        if self.padding == "left" and not self.anywhere:
            return steps + 1 - self.length
        places = np.random.default_rng([self.seed, zlib.crc32(f"{self.name}.place".encode()), step])
        ahead = places.integers(0, self.length, len(steps))
        if self.padding == "both":
            return steps - ahead
        return np.minimum(steps + ahead, lengths - 1) + 1 - self.length

    def stream(self, step: int) -> np.random.Generator:
        """The random numbers of a step."""
        return np.random.default_rng([self.seed, zlib.crc32(self.name.encode()), step])

    def rows(self, step: int, rank: int, world: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Flat rows (b, T) of one rank's share, and which of them are real."""
        mine = self.segments(step)[rank_rows(self.count, rank, world)]
        return flat_rows(mine, self.reader.episode_starts, self.length)

    def frames(self, rows: NDArray[np.int64], real: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(b, T, H, W) or (b, T, H, W, 3): frames of flat rows, zeros where a row is not real."""
        found = np.zeros((*rows.shape, *self.reader.frame_shape), np.uint8)
        for into, at, valid in zip(found, rows, real, strict=True):
            here = np.flatnonzero(valid)
            first, last = int(at[here[0]]), int(at[here[-1]]) + 1
            frames = self.reader.frames(first, last) if self.memory is None else self.memory[first:last]
            into[here[0] : here[-1] + 1] = frames
        return found

    def close(self) -> None:
        """Let go of files."""
        self.reader.close()


@dataclass(frozen=True)
class SampledSegments:
    """A `BatchSource` of SegmentBatch."""

    draws: Sampler

    def batch(self, step: int, rank: int = 0, world: int = 1) -> SegmentBatch:
        """The segments of one step, or one rank's rows of them: `rank_rows(count, rank, world)`."""
        draws, reader = self.draws, self.draws.reader
        rows, real = draws.rows(step, rank, world)
        return SegmentBatch(
            draws.frames(rows, real),
            None,
            masked(draws.actions[rows], real),
            (reader.rewards[rows] * real).astype(np.float32),
            (reader.terminals[rows] * real).astype(np.uint8),
            real,
            np.full(len(rows), draws.game, np.int64),
        )

    def close(self) -> None:
        """Let go of files; the next batch opens them again."""
        self.draws.close()


@dataclass(frozen=True)
class SampledFrames:
    """A `BatchSource` of FrameBatch: segments of one step, without the rest. discount: of their returns, if wanted."""

    draws: Sampler
    discount: float | None = None

    def batch(self, step: int, rank: int = 0, world: int = 1) -> FrameBatch:
        """The frames of one step, or one rank's share of them."""
        rows, real = self.draws.rows(step, rank, world)
        frames, games_n = self.draws.frames(rows, real)[:, 0], np.full(len(rows), self.draws.game)
        returns_n = None if self.discount is None else returns_at(self.draws.reader, rows[:, 0], self.discount)
        return FrameBatch(frames, games_n.astype(np.int64), returns_n)

    def close(self) -> None:
        """Let go of files; the next batch opens them again."""
        self.draws.close()
