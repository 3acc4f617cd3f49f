"""What the replay benchmark measures on: real frames of several games, made by our own stages and kept for later runs.

Two agents a game, epsilon falling from 1 to 0.05 over the script where the game has one, random actions elsewhere.
Cost at full size: 100,000 frames take 60 to 100 s to play, once; then they are found in the benchmark's store.
"""

import gzip
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.listing import file_name, log_folder
from pipelines.sources.dqn_replay.log_reader import iter_blocks, read_array
from pipelines.sources.dqn_replay.ring_log import FRAME, GZIP_LEVEL, RingWriter
from pipelines.stages import collect, downsample, fetch
from pipelines.stages.collect import CollectConfig
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store

AGENTS = (1, 2)

TOKENS, VOCABULARY = 36, 2048


@dataclass(frozen=True)
class Sizes:
    """`steps` are played by each of two agents of each game; `objects` logs of `rows` rows lie in the bucket."""

    games: tuple[str, ...] = ("Boxing", "Freeway", "MsPacman", "Seaquest")
    steps: int = 12_500
    objects: int = 10
    rows: int = 100_000
    share: float = 0.2  # of the bucket's rows that a draw asks for
    bucket_game: str = "Seaquest"
    rounds: int = 3

    @property
    def frames(self) -> int:
        """Frames played in all."""
        return self.steps * len(AGENTS) * len(self.games)


FULL = Sizes()

QUICK = Sizes(games=("Freeway", "Seaquest"), steps=2_500, objects=3, rows=5_000, rounds=1)


@dataclass(frozen=True)
class Data:
    """Where everything lies: below `folder`, which may be deleted at any time."""

    folder: Path
    sizes: Sizes

    @property
    def store(self) -> Store:
        """The benchmark's own store; its artefacts are no experiment's."""
        return Store(self.folder / "store")

    def collected(self, game: str) -> Artefact:
        """The played replay of a game."""
        steps = self.sizes.steps
        config = CollectConfig(game, agents=len(AGENTS), steps=steps, capacity=2 * steps)  # one log an agent
        return collect.run(config, self.store).artefact

    def trajectories(self, game: str) -> Path:
        """Every whole episode of a game, as the stages `replay` and `trajectories` write them."""
        played = self.collected(game).ref
        replays = [fetch.run(FetchConfig(game, agent, collected=played), self.store).artefact for agent in AGENTS]
        config = DownsampleConfig(game, replays=tuple(each.ref for each in replays), transitions=2 * self.sizes.steps)
        return downsample.run(config, self.store).artefact.path(FILE_NAME)

    def fresh(self, game: str) -> Iterator[dict[str, NDArray]]:
        """The rows that each agent's log holds, without what the ring had free: kind -> array."""
        folder = self.collected(game).folder
        for agent in AGENTS:
            urls = f"file://{folder}/{log_folder(game, agent)}/"
            rows = int(read_array(urls + file_name("add_count", 0)))
            kinds = {kind: read_array(urls + file_name(kind, 0))[:rows] for kind in ("action", "reward", "terminal")}
            frames = np.empty((rows, *FRAME), np.uint8)
            row = 0
            for block in iter_blocks(urls + file_name("observation", 0)):
                frames[row : row + len(block)] = block[: max(rows - row, 0)]
                row += len(block)
            yield kinds | {"observation": frames}

    def observation_file(self) -> Path:
        """One gzip'd .npy of all games' frames, (sizes.frames, 84, 84), one game after the other."""
        path = self.folder / f"observation-{self.sizes.frames}.gz"
        if not path.exists():
            parts = [log["observation"] for game in self.sizes.games for log in self.fresh(game)]
            frames = np.concatenate(parts)[: self.sizes.frames]
            aside = path.with_suffix(".partial")
            with gzip.open(aside, "wb", GZIP_LEVEL) as file:
                np.save(file, frames, allow_pickle=False)
            aside.replace(path)
        return path

    def tokens(self, game: str) -> NDArray[np.uint16]:
        """Random codes (N, 36) for every frame of a game: what they say does not change how fast they are read."""
        rows = len(Trajectories(self.trajectories(game)))
        return np.random.default_rng(rows).integers(0, VOCABULARY, (rows, TOKENS), np.uint16)

    def token_file(self, game: str) -> Path:
        """The same as training maps it into memory."""
        path = self.folder / f"tokens-{game}-{self.sizes.steps}.npy"
        if not path.exists():
            np.save(path, self.tokens(game))
        return path

    def grouped(self, game: str, of: str) -> Path:
        """The original's layout: one group an episode, uncompressed; `of` is "frames" or "tokens" (int64)."""
        path = self.folder / f"groups-{of}-{game}-{self.sizes.steps}.h5"
        if not path.exists():
            source = Trajectories(self.trajectories(game))
            codes = self.tokens(game).astype(np.int64) if of == "tokens" else None
            aside = path.with_suffix(".partial")
            with h5py.File(aside, "w") as file:
                for episode in range(source.num_episodes):
                    rows = slice(*source.episode_starts[episode : episode + 2].tolist())
                    group = file.create_group(str(episode))
                    group["observations"] = source.frames(rows.start, rows.stop) if codes is None else codes[rows]
                    group["actions"] = source.actions[rows].astype(np.int64)
                    group["rewards"] = source.rewards[rows]
                    group["terminals"] = source.terminals[rows]
            aside.replace(path)
        return path

    def shard(self, game: str) -> Path:
        """A game's whole episodes in the form of RL Unplugged: gzip'd TFRecords, PNGs as libpng filters them by itself.

        The log has no terminal frame: the last one stands for it. Raises WorldlineError without the `tfrecord` package.
        """
        path = self.folder / f"episodes-{game}-{self.sizes.steps}.gz"
        if not path.exists():
            try:
                from tfrecord.writer import TFRecordWriter
            except ImportError as error:
                raise WorldlineError("The row 'episodes' needs tfrecord: pip install 'worldline[dev]'") from error
            aside = path.with_suffix(".partial")
            writer = TFRecordWriter(str(aside))
            for log in self.fresh(game):
                _, rows = _episodes(log)
                ends = np.flatnonzero(log["terminal"][rows]) + 1
                for number, own in enumerate(np.split(rows, ends[:-1])):
                    writer.write(_features(log, own, number))
            writer.close()
            packed = path.with_suffix(".packed")
            with aside.open("rb") as file, gzip.open(packed, "wb", GZIP_LEVEL) as to:
                shutil.copyfileobj(file, to)
            aside.unlink()
            packed.replace(path)
        return path

    def bucket_folder(self) -> Path:
        """A folder in DQN-Replay's layout with one agent's `objects` logs of `rows` rows, for the bucket.

        Our own recorded episodes are logged again and again until there are enough: every frame is a real one, but
        each occurs several times.
        """
        sizes = self.sizes
        folder = self.folder / f"bucket-{sizes.bucket_game}-{sizes.steps}-{sizes.objects}x{sizes.rows}"
        if not folder.exists():
            aside = folder.with_suffix(".partial")
            logs = aside / log_folder(sizes.bucket_game, 1)
            logs.mkdir(parents=True, exist_ok=True)
            ring = RingWriter(logs, sizes.rows)
            played = [_episodes(log) for log in self.fresh(sizes.bucket_game)]
            while ring.logs < sizes.objects:
                for log, rows in played:
                    _replay(log, rows, ring, sizes.objects)
            aside.rename(folder)
        return folder


def _episodes(log: dict[str, NDArray]) -> tuple[dict[str, NDArray], NDArray[np.int64]]:
    """A log, and the rows of its whole episodes without the blank ones before each."""
    ends = np.flatnonzero(log["terminal"])
    if not len(ends):
        raise WorldlineError(f"No episode ended in {len(log['terminal'])} rows: the benchmark needs longer play")
    real = log["observation"][: ends[-1] + 1].any((1, 2))
    return log, np.flatnonzero(real)


def _features(log: dict[str, NDArray], rows: NDArray[np.int64], number: int) -> dict[str, tuple[Any, str]]:
    """The fields of one episode that ended truly, as the `tfrecord` package takes them; rewards are clipped ones."""
    as_libpng = [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS]
    as_libpng += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_FILTERED]
    pngs = [cv2.imencode(".png", log["observation"][row], as_libpng)[1].tobytes() for row in rows.tolist()]
    rewards = [*log["reward"][rows].tolist(), 0.0]
    return {
        "checkpoint_idx": (0, "int"),
        "episode_idx": (number, "int"),
        "episode_return": (sum(rewards), "float"),
        "clipped_episode_return": (sum(rewards), "float"),
        "observations": ([*pngs, pngs[-1]], "byte"),
        "actions": ([*log["action"][rows].tolist(), 0], "int"),
        "unclipped_rewards": (rewards, "float"),
        "clipped_rewards": (rewards, "float"),
        "discounts": ([1.0] * len(rows) + [0.0], "float"),
    }


def _replay(log: dict[str, NDArray], rows: NDArray[np.int64], ring: RingWriter, logs: int) -> None:
    for row in rows.tolist():
        if ring.logs >= logs:
            return
        ring.add(log["observation"][row], log["action"][row], log["reward"][row], log["terminal"][row])
