"""Tokens files for the training benchmark: random codes of the paper's games, one file a game, as training maps them.

What tokens say does not change how fast they are read. Files of full size are 216 MB; they are kept for later runs.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.loader import SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.recipes.jowa import TRAINING_GAMES

EPISODE = 1_000  # transitions; sources cut segments of 8 at stride 4, the last of an episode half padding


class Played:
    """A TrajectoryReader's small arrays for episodes that nobody played; it has no frames."""

    def __init__(self, game: str, episodes: int) -> None:
        self.game, self.num_episodes = game, episodes
        self.frame_shape: tuple[int, ...] = (84, 84)
        self.episode_starts = np.arange(episodes + 1, dtype=np.int64) * EPISODE
        rows = episodes * EPISODE
        self.actions = np.zeros(rows, np.uint8)
        self.rewards = np.random.default_rng(0).integers(-1, 2, rows).astype(np.float32)
        self.terminals, self.truncations = np.zeros(rows, np.uint8), np.zeros(rows, np.uint8)
        self.terminals[self.episode_starts[1:] - 1] = 1

    def __len__(self) -> int:
        return len(self.actions)

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        raise ValueError(f"Frames {start} to {stop} of {self.game} do not exist: the benchmark trains on tokens")

    def close(self) -> None:
        """Nothing is open."""


def token_sources(
    folder: Path, episodes: int, tokens_per_frame: int, vocab_size: int, games: tuple[str, ...] = TRAINING_GAMES
) -> list[SegmentSource]:
    """One source a game, with memory-mapped tokens (episodes * EPISODE, K) uint16 from files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, game in enumerate(games):
        played = Played(game, episodes)
        path = folder / f"tokens-{game}-{episodes}x{EPISODE}-{tokens_per_frame}-{vocab_size}.npy"
        if not path.exists():
            codes = np.random.default_rng(number).integers(0, vocab_size, (len(played), tokens_per_frame), np.uint16)
            aside = path.with_suffix(".partial.npy")
            np.save(aside, codes, allow_pickle=False)
            aside.replace(path)
        tokens_NK = np.load(path, mmap_mode="r", allow_pickle=False)
        found.append(SegmentSource(played, Segmentation(played.episode_starts, 8, 4, "right"), tokens_NK))
    return found
