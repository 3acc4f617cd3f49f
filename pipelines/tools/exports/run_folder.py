"""A game's run as the folder that IRIS's users know: checkpoints and episodes, config, pictures, curves.

    checkpoints/last.pt            the agent, one flat state_dict (see original_checkpoint.py)
    checkpoints/epoch.pt           how many rounds it learned, an int
    checkpoints/dataset/{id}.pt    an episode that it played: observations (T,3,64,64) uint8, actions (T,) int64 in the
                                   game's own numbers, rewards (T,) float32, ends (T,) int64, mask_padding (T,) bool
    config/trainer.yaml            its numbers under IRIS's names (see trainer_config.py)
    media/reconstructions/*.png    originals beside what the agent sees and foresees: at its end, and after steps on its
                                   way whose checkpoints were kept
    media/episodes/train/*.pt      the newest ten episodes that it played and the best one, in the form of dataset/, by
                                   number and by the round in which they ended
    media/episodes/imagination/    films of the same moments as the pictures': an episode beside what is imagined of its
                                   actions (film), and one that the agent dreamt (dream)
    metrics/                       metrics.jsonl and its curves

What an artefact does not have is left out: an agent that played nothing has no episodes, an imported one no epoch.
The original's play tool finds all that it reads in checkpoint and config, if LPIPS went out too; its own code was not
run on such a folder. Optimisers are not kept with a finished agent, so nothing can train on from it. As there, an
episode that the time limit cut ends like one that was over. One episode is in memory at a time.
Run: `worldline export run EXPERIMENT --game Pong --to DIR`.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from torch import Tensor

from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.progress import Advance
from pipelines.store.artefact import Artefact
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.original_checkpoint import OriginalCheckpoint
from pipelines.tools.exports.target import Origin
from pipelines.tools.exports.trainer_config import trainer_config
from pipelines.training.checkpoints import FOLDER as KEPT_IN
from pipelines.training.metrics import ROWS
from pipelines.training.weight_files import differences, read_data

CHECKPOINTS, DATASET, CONFIG = "checkpoints", "checkpoints/dataset", "config/trainer.yaml"

PICTURE = re.compile(rf"(?:{KEPT_IN}/(step-\d+)/)?(sheet|film|dream)_(.+\.(?:png|gif))")  # on the way, or of the end

PLAYED, DREAMT, SHEETS = "media/episodes/train", "media/episodes/imagination", "media/reconstructions"

NEWEST = 10  # episodes in PLAYED


@dataclass(frozen=True)
class RunFolder:
    """An `Export` of one game's agent as the folder `name`. game: the one that it learned."""

    artefact: Artefact
    checkpoint: OriginalCheckpoint
    game: str
    name: str

    form: ClassVar[str] = "iris-run"
    unit: ClassVar[str] = "files"

    @property
    def size(self) -> int:
        played = self._played.num_episodes if self._played else 0
        return self.checkpoint.size + len(self._copied) + played + len(self._shown)

    @property
    def options(self) -> dict[str, Any]:
        return {"game": self.game, **self.checkpoint.options}

    @property
    def counts(self) -> dict[str, int]:
        played = {"episodes": self._played.num_episodes, "steps": len(self._played)} if self._played else {}
        return self.checkpoint.counts | played

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        path.mkdir()
        self.checkpoint.write(path / CHECKPOINTS, origin, advance)
        if self._learning:
            torch.save(self._learning["rounds"], path / CHECKPOINTS / "epoch.pt")
        for number, episode in enumerate(self._episodes()):
            for name in (f"{DATASET}/{number}.pt", *self._shown.get(number, ())):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                torch.save(episode, path / name)
                advance(1)
        for name, source in self._copied.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path / name)
            advance(1)
        (path / CONFIG).parent.mkdir()
        (path / CONFIG).write_text(yaml.safe_dump(self._config, sort_keys=False), encoding="utf-8")

    def read_back(self, path: Path, advance: Advance) -> None:
        self.checkpoint.read_back(path / CHECKPOINTS, advance)
        if self._learning and read_data(path / CHECKPOINTS / "epoch.pt") != self._learning["rounds"]:
            raise differs("epoch.pt")
        for number, episode in enumerate(self._episodes()):
            for name in (f"{DATASET}/{number}.pt", *self._shown.get(number, ())):
                found = read_data(path / name)
                if found.keys() != episode.keys() or differences(found, episode):
                    raise differs(f"episode {number}")
                advance(1)
        for name, source in self._copied.items():
            if (path / name).read_bytes() != source.read_bytes():
                raise differs(name)
            advance(1)
        if yaml.safe_load((path / CONFIG).read_text(encoding="utf-8")) != self._config:
            raise differs(CONFIG)

    # ---- inside ----

    @cached_property
    def _learning(self) -> dict[str, Any]:
        """The config by which the agent learned in rounds; nothing of one that came from elsewhere."""
        config = self.artefact.manifest.config
        return config if "rounds" in config else {}

    @cached_property
    def _config(self) -> dict[str, Any]:
        return trainer_config(self.game, self.checkpoint.agent.config.plain(), self._learning)

    @cached_property
    def _played(self) -> Trajectories | None:
        return Trajectories(self.artefact.path(FILE_NAME)) if FILE_NAME in self.artefact.names() else None

    @cached_property
    def _copied(self) -> dict[str, Path]:
        """By name in the folder, the file of the artefact."""
        names = self.artefact.names()
        places = {ROWS: f"metrics/{ROWS}", "curves.png": "metrics/curves.png"}
        for name in names:
            if found := PICTURE.fullmatch(name):
                when, kind, rest = found[1] or "end", found[2], found[3]
                places[name] = f"{SHEETS}/{when}_{rest}" if kind == "sheet" else f"{DREAMT}/{when}_{kind}_{rest}"
        return {place: self.artefact.path(name) for name, place in places.items() if name in names}

    @cached_property
    def _shown(self) -> dict[int, list[str]]:
        """By number, where the newest episodes and the best one lie besides the dataset, named as the original names
        them."""
        if (played := self._played) is None or not self._learning:
            return {}
        starts = played.episode_starts
        returns = [float(played.rewards[a:b].sum()) for a, b in pairwise(starts.tolist())]
        newest = sorted(range(len(returns)), key=lambda number: (self._round(int(starts[number + 1])), number))
        found = {number: [f"{PLAYED}/episode_{self._name(number)}"] for number in newest[-NEWEST:]}
        best = max(range(len(returns)), key=lambda number: (returns[number], -number))
        found.setdefault(best, []).append(f"{PLAYED}/best_episode_{self._name(best)}")
        return found

    def _name(self, number: int) -> str:
        assert self._played is not None
        return f"{number}_epoch_{self._round(int(self._played.episode_starts[number + 1]))}.pt"

    def _round(self, stop: int) -> int:
        """The round, from 1, in which the step before row `stop` was played: environments lie one behind the other."""
        assert self._played is not None
        play, rounds = self._learning["collect"], int(self._learning["rounds"])
        turns = [int(play["first_steps"]) or int(play["steps"]), *[int(play["steps"])] * (rounds - 1)]
        turns = turns[: int(play["until"]) or rounds]
        count = int(play["environments"])
        shares = [[steps // count + (row < steps % count) for steps in turns] for row in range(count)]
        for row in shares:
            if stop <= sum(row):
                return 1 + int(np.searchsorted(np.cumsum(row), stop))
            stop -= sum(row)
        return rounds

    def _episodes(self) -> Iterator[dict[str, Tensor]]:
        """What was played, episode by episode, as the original keeps it."""
        if (played := self._played) is None:
            return
        ends_N = played.terminals | played.truncations
        for first, stop in zip(played.episode_starts[:-1].tolist(), played.episode_starts[1:].tolist(), strict=True):
            frames = played.frames(first, stop)
            frames_THWC = frames if frames.ndim == 4 else frames[..., None]
            yield {
                "observations": torch.from_numpy(np.ascontiguousarray(frames_THWC.transpose(0, 3, 1, 2))),
                "actions": torch.from_numpy(played.actions[first:stop].astype(np.int64)),
                "rewards": torch.from_numpy(played.rewards[first:stop].astype(np.float32)),
                "ends": torch.from_numpy(ends_N[first:stop].astype(np.int64)),
                "mask_padding": torch.ones(stop - first, dtype=torch.bool),
            }
