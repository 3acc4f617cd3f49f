"""Toy replay written by the real writer, next to the stream of transitions that it was really given."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.sources.dqn_replay.listing import log_folder
from pipelines.sources.dqn_replay.ring_log import RingLog, RingWriter


@dataclass
class Truth:
    """Every real transition by its add number (blank rows counted too), and the add numbers of each episode."""

    root: Path
    capacity: int
    stack_size: int
    frames: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    actions: dict[int, int] = field(default_factory=dict)
    rewards: dict[int, float] = field(default_factory=dict)
    terminals: dict[int, bool] = field(default_factory=dict)
    episodes: list[list[int]] = field(default_factory=lambda: [[]])
    logged: list[int] = field(default_factory=list)  # the laps whose log was written, in file order
    counts: list[int] = field(default_factory=list)  # rows ever added when each log was written, in file order

    def number(self, file: int, row: int) -> int:
        """The add number that a row of a log really holds."""
        newest = self.counts[file] - 1
        return newest - (newest - row) % self.capacity


def write_replay(
    root: Path,
    lengths: list[int],
    capacity: int = 40,
    stack_size: int = 4,
    seed: int = 0,
    game: str = "Freeway",
    agent: int = 1,
    frame_shape: tuple[int, int] = (84, 84),
    actions: int = 3,
    unfinished: int = 0,
    idle: float = 0.3,
) -> Truth:
    """Episodes of these lengths, then `unfinished` steps of another; returns what a reader should find."""
    folder = root / log_folder(game, agent)
    folder.mkdir(parents=True)
    ring = RingWriter(folder, capacity, stack_size, frame_shape)
    return play(ring, root, lengths, seed, actions, unfinished, idle)


def play(
    ring: RingWriter,
    root: Path,
    lengths: list[int],
    seed: int = 0,
    actions: int = 3,
    unfinished: int = 0,
    idle: float = 0.3,
    lively: bool = False,
) -> Truth:
    """Give a writer these episodes. A step is `idle` (looks blank) with that probability, a `lively` one else never."""
    rng = np.random.default_rng(seed)
    truth = Truth(root, ring.capacity, ring.stack_size)
    for length, ends in [*((length, True) for length in lengths), (unfinished, False)]:
        for step in range(length):
            frame = rng.integers(0, 256, ring.frame_shape, dtype=np.uint8)
            still = rng.random() < idle  # a real row that looks blank in the small kinds
            action = 0 if still else int(rng.integers(int(lively), actions))
            reward = 0.0 if still else float(rng.integers(-1, 2))
            terminal = ends and step == length - 1
            logs = ring.logs
            ring.add(frame, action, reward, terminal)
            index = ring.add_count - 1
            if ring.logs > logs:
                truth.logged.append(index // ring.capacity)
                truth.counts.append(ring.add_count)
            truth.frames[index], truth.actions[index] = frame, action
            truth.rewards[index], truth.terminals[index] = reward, terminal
            truth.episodes[-1].append(index)
        if ends:
            truth.episodes.append([])
    ring.close()
    full = ring.cursor == ring.capacity - 1
    truth.logged.append((ring.add_count - int(full)) // ring.capacity)
    truth.counts.append(ring.add_count)
    truth.episodes = [episode for episode in truth.episodes if episode]
    return truth


class Kept(RingWriter):
    """The real writer, its logs kept in memory instead of files, and some ways in which it could have been written."""

    def __init__(self, capacity: int, stack_size: int, pads: bool = True, every: int = 0, honest: bool = False) -> None:
        """`pads`: blank rows before episodes. `every`: log after that many rows, wherever the cursor is, instead of one
        row before the lap ends. `honest`: the last log keeps its true count."""
        super().__init__(Path(), capacity, stack_size, frame_shape=(1, 1))
        self.taken: list[RingLog] = []
        self.pads, self.every, self.honest = pads, every, honest

    def close(self) -> None:
        self._log(self.add_count if self.honest else self.cursor)

    def _pad(self) -> None:
        if self.pads:
            super()._pad()

    def _due(self) -> bool:
        before = self.taken[-1].add_count if self.taken else 0
        return self.add_count - before >= self.every if self.every else super()._due()

    def _log(self, add_count: int) -> None:
        arrays = [self._rows[kind].copy() for kind in ("action", "reward", "terminal")]
        around = (add_count - 1 + np.arange(self.stack_size + 1)) % self.capacity
        self.taken.append(RingLog(self.logs, add_count, *arrays, around))
        self.logs += 1


class InOrder(Kept):
    """Logs when the ring is exactly full: the last row of a file is its newest. `lies`: but counts one row less."""

    lies = False

    def _due(self) -> bool:
        return self.cursor == 0

    def _log(self, add_count: int) -> None:
        super()._log(add_count - int(self.lies and self.cursor == 0 < add_count))


class Liar(InOrder):
    """Its counts say what the original's would: only the rows can refute them."""

    lies = True
