"""The log of finished episodes: a line of JSON each, written at once, so that a kill loses only what was being played.

The actions lie beside it, a byte a step: with its seed an episode can be played again.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.atari.rollout import Episode

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
        line = {
            "planner": planner,
            "episode": episode.episode,
            "seed": episode.seed,
            "return": episode.score,
            "clipped_return": episode.clipped_score,
            "length": episode.length,
            "ended": episode.ended,
            **self.under,
            "settings": dict(settings),
        }
        _write(self.path, "ab", (json.dumps(line) + "\n").encode())

    def found(self, planner: str) -> dict[int, Episode]:
        """The finished episodes of one planner by number. What a kill tore off is left out, and cut from the file."""
        episodes = {}
        for line in self._lines():
            if line["planner"] != planner or any(line.get(name) != value for name, value in self.under.items()):
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

    def actions_path(self, planner: str, episode: int) -> Path:
        """The file of an episode's actions."""
        return self.folder / "actions" / f"{planner}-{episode}.bin"

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        raw = self.path.read_bytes()
        if whole := raw.rfind(b"\n") + 1 - len(raw):
            os.truncate(self.path, len(raw) + whole)
            raw = raw[:whole]
        return [json.loads(line) for line in raw.splitlines()]


def _write(path: Path, mode: str, data: bytes) -> None:
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
