"""Toy replay written by the real writer, next to the stream of transitions that it was really given."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.replay.layout import log_folder
from pipelines.replay.ring_buffer import RingBufferLog


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
    rng = np.random.default_rng(seed)
    folder = root / log_folder(game, agent)
    folder.mkdir(parents=True)
    ring = RingBufferLog(folder, capacity, stack_size, frame_shape)
    truth = Truth(root, capacity, stack_size)
    for length, ends in [*((length, True) for length in lengths), (unfinished, False)]:
        for step in range(length):
            frame = rng.integers(0, 256, frame_shape, dtype=np.uint8)
            still = rng.random() < idle  # a real row that looks blank in the small kinds
            action = 0 if still else int(rng.integers(actions))
            reward = 0.0 if still else float(rng.integers(-1, 2))
            terminal = ends and step == length - 1
            logs = ring.logs
            ring.add(frame, action, reward, terminal)
            index = ring.add_count - 1
            if ring.logs > logs:
                truth.logged.append(index // capacity)
            truth.frames[index], truth.actions[index] = frame, action
            truth.rewards[index], truth.terminals[index] = reward, terminal
            truth.episodes[-1].append(index)
        if ends:
            truth.episodes.append([])
    ring.close()
    truth.logged.append((ring.add_count - 1) // capacity if ring.cursor == capacity - 1 else ring.add_count // capacity)
    truth.episodes = [episode for episode in truth.episodes if episode]
    return truth
