"""The log of finished episodes, and what is written down of them: statistics, and a table with a row each.

Every episode is a line of JSON, written at once, so that a kill loses only what was being played. Its actions lie
beside it, a byte a step: with its seed an episode can be played again.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.environments.atari.reference_scores import iqm
from pipelines.environments.rollout import Episode
from pipelines.errors import WorldlineError

if TYPE_CHECKING:
    import pandas as pd

NAME = "episodes.jsonl"


@dataclass(frozen=True)
class EpisodeLog:
    """Episodes in `folder`. `under` is what they were all played under: lines of other circumstances do not count."""

    folder: Path
    under: Mapping[str, Any]  # of JSON's types: protocol, emulator, ROM

    @property
    def path(self) -> Path:
        """The file of lines."""
        return self.folder / NAME

    def add(self, planner: str, settings: Mapping[str, Any], episode: Episode) -> None:
        """Keep one episode; it is on the disk when this returns."""
        self.actions_path(planner, episode.episode).parent.mkdir(exist_ok=True)
        _write(self.actions_path(planner, episode.episode), "wb", episode.actions)
        line = {"planner": planner, **episode.row(), **self.under, "settings": dict(settings)}
        _write(self.path, "ab", (json.dumps(line) + "\n").encode())

    def found(self, planner: str) -> dict[int, Episode]:
        """The finished episodes of one planner by number. What a kill tore off is left out, and cut from the file."""
        episodes = {}
        for line in self._lines():
            if line["planner"] != planner or not self._counts(line):
                continue
            actions = self.actions_path(planner, line["episode"])
            if actions.is_file() and actions.stat().st_size == line["length"]:
                episodes[line["episode"]] = Episode(
                    line["episode"],
                    line["seed"],
                    line["return"],
                    line["clipped_return"],
                    line["length"],
                    line["ended"],
                    actions.read_bytes(),
                )
        return episodes

    def text(self, played: Mapping[str, Iterable[Episode]]) -> str:
        """The lines of these episodes, filed by planner, in the order in which they ended: what is published.

        What was played again, as its actions were lost or the emulator is another one now, has its last line alone.
        """
        wanted = {(planner, episode.episode) for planner, episodes in played.items() for episode in episodes}
        last: dict[tuple[str, int], dict[str, Any]] = {}
        for line in self._lines():
            name = (line["planner"], line["episode"])
            if name in wanted and self._counts(line):
                last.pop(name, None)
                last[name] = line
        return "".join(json.dumps(line) + "\n" for line in last.values())

    def actions_path(self, planner: str, episode: int) -> Path:
        """The file of an episode's actions."""
        return self.folder / "actions" / f"{planner}-{episode}.bin"

    def _counts(self, line: Mapping[str, Any]) -> bool:
        return all(line.get(name) == value for name, value in self.under.items())

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        raw = self.path.read_bytes()
        if whole := raw.rfind(b"\n") + 1 - len(raw):
            os.truncate(self.path, len(raw) + whole)
            raw = raw[:whole]
        try:
            return [json.loads(line) for line in raw.splitlines()]
        except ValueError as error:
            raise WorldlineError(
                f"{self.path} holds a damaged line ({error}): delete that file, and its episodes are played again"
            ) from error


def _write(path: Path, mode: str, data: bytes) -> None:
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Statistics of raw returns (arXiv 2410.00564, evaluation), and the mean of the sign-clipped ones."""
    scores = np.array([episode.score for episode in episodes])
    return {
        "mean": round(float(scores.mean()), 4),
        "std": round(float(scores.std(ddof=1)) if len(scores) > 1 else 0.0, 4),
        "median": float(np.median(scores)),
        "iqm": round(iqm(scores.tolist()), 4),
        "clipped_mean": round(float(np.mean([episode.clipped_score for episode in episodes])), 4),
        "episodes": len(scores),
        "mean_length": round(float(np.mean([episode.length for episode in episodes])), 1),
    }


def episode_table(played: Mapping[str, Sequence[Episode]]) -> "pd.DataFrame":
    """All episodes by planner: emulator's seed, raw and sign-clipped return, length in agent steps, how it ended."""
    import pandas as pd

    return pd.DataFrame(
        [{"planner": name, **episode.row()} for name, episodes in played.items() for episode in episodes]
    )
