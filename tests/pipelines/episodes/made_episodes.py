"""Trajectories of random frames: as a file, and as an artefact of a store."""

from pathlib import Path

import numpy as np

from pipelines.environments.actions import own_actions
from pipelines.episodes.trajectories import FILE_NAME, Trajectories, TrajectoryWriter
from pipelines.stages.downsample import DownsampleConfig
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.store import Store

LENGTHS = (5, 40, 1, 22)


def write_episodes(
    path: Path,
    game: str = "Freeway",
    lengths: tuple[int, ...] = LENGTHS,
    seed: int = 0,
    frame: tuple[int, ...] = (84, 84),
) -> Trajectories:
    """All but the last episode end with the game; the last one ran into the time limit."""
    rng = np.random.default_rng(seed)
    total, ends = sum(lengths), np.cumsum(lengths) - 1
    terminals, truncations = np.zeros(total, np.uint8), np.zeros(total, np.uint8)
    terminals[ends[:-1]], truncations[ends[-1]] = 1, 1
    names = own_actions(game)
    with TrajectoryWriter(path, game, names, list(lengths), frame) as writer:
        small = rng.integers(1, 256, (total, frame[0] // 7, frame[1] // 7, *frame[2:]), dtype=np.uint8)
        frames = np.repeat(np.repeat(small, 7, axis=1), 7, axis=2)
        writer.write("observations", 0, frames)
        writer.write("actions", 0, rng.integers(0, len(names), total).astype(np.uint8))
        writer.write("rewards", 0, rng.integers(-1, 2, total).astype(np.float32))
        writer.write("terminals", 0, terminals)
        writer.write("truncations", 0, truncations)
        source = np.stack([np.full(total, 1), np.full(total, 7), np.arange(total) + 100], axis=1)
        writer.write("source_rows", 0, source.astype(np.int32))
    return Trajectories(path)


def put_episodes(
    store: Store,
    game: str = "Freeway",
    lengths: tuple[int, ...] = LENGTHS,
    seed: int = 0,
    frame: tuple[int, ...] = (84, 84),
) -> Artefact:
    """The same as a `trajectories` artefact, called `trajectories/{game}`."""
    spec = DownsampleConfig(game, seed=seed).spec()

    def build(draft: Draft) -> None:
        write_episodes(draft.path(FILE_NAME), game, lengths, seed, frame)

    made = store.produce(spec, build).artefact
    store.point(f"trajectories/{game}", made.ref)
    return made
