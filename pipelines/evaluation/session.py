"""A session of evaluation: the rules, the ROM, the seeds of the episodes, and the log of those that are finished.

Seeds on which settings are chosen are never among those whose scores are reported: the best of many settings owes
part of its score to the episodes that it was chosen on.

Every finished episode is a line of JSON, written at once, so that a kill loses only what was being played. Its actions
lie beside it, a byte a step: with its seed an episode can be played again.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.environments.actions import stored_action
from pipelines.environments.atari.reference_scores import iqm
from pipelines.environments.registry import Rules, emulator_seeds, protocol, roots
from pipelines.environments.rollout import Episode, EpisodeBatch
from pipelines.errors import WorldlineError
from pipelines.evaluation.achievements import COLUMN, of_episodes
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.progress import say

if TYPE_CHECKING:
    import pandas as pd


LOG_NAME = "episodes.jsonl"
SELECTION = 1  # numpy's spawn key of the stream from which selection draws


def reported_seeds(seed: int, count: int, spent: Collection[int] = ()) -> tuple[int, ...]:
    """The first `count` emulator seeds of `seed` that are not `spent`; more of them begin with the same ones."""
    taken = set(spent)
    found = (word for word in emulator_seeds(seed, count + len(taken)) if word not in taken)
    return tuple(word for word, _ in zip(found, range(count), strict=False))


def selection_seeds(seed: int, count: int) -> tuple[int, ...]:
    """`count` emulator seeds to choose settings on: a stream of its own, so an equal `seed` does not repeat episodes.

    A rare meeting by chance is ruled out where scores are made: `reported_seeds` leaves out what was spent here.
    """
    stream = np.random.SeedSequence(seed, spawn_key=(SELECTION,))
    return tuple(int(word) >> 1 for word in stream.generate_state(count))


@dataclass(frozen=True)
class EpisodeLog:
    """Episodes in `folder`. `under` is what they were all played under: lines of other circumstances do not count."""

    folder: Path
    under: Mapping[str, Any]  # of JSON's types: protocol, emulator, ROM
    width: int = 1  # bytes of an action

    @property
    def path(self) -> Path:
        """The file of lines."""
        return self.folder / LOG_NAME

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
            if actions.is_file() and actions.stat().st_size == line["length"] * self.width:
                episodes[line["episode"]] = Episode(
                    line["episode"],
                    line["seed"],
                    line["return"],
                    line["clipped_return"],
                    line["length"],
                    line["ended"],
                    actions.read_bytes(),
                    line.get("achievements", {}),
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


@dataclass(frozen=True)
class EvaluationSession:
    """`envs` episodes are played at once (0: all). Every finished one is in the log: a kill loses the others."""

    game: str
    rules: Rules
    log: EpisodeLog
    envs: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  # what `registry.options` found for the game

    @classmethod
    def of(
        cls, game: str, rules: str, folder: Path, envs: int = 0, options: Mapping[str, Any] | None = None
    ) -> "EvaluationSession":
        """With the log in `folder`. Raises UsageError for an unknown game or protocol."""
        given = options or {}
        played = roots(game, protocol(rules), **given)
        under: dict[str, Any] = {name: played[name] for name in ("protocol", "emulator", "rom_md5") if name in played}
        log = EpisodeLog(folder, under, stored_action(game).itemsize)
        return cls(game, protocol(rules), log, envs, given)

    def table(self, who: PlayerSettings, seeds: Sequence[int]) -> EpisodeBatch:
        """The episodes of `who` that the log lacks; those that it gets are kept at once."""
        found = self._found(who, seeds)
        missing = {number: seed for number, seed in enumerate(seeds) if number not in found}
        if found:
            say(f"{self.game}, {who.planner}: {len(found)} of {len(seeds)} episodes were played already")

        def finished(episode: Episode) -> None:
            self.log.add(who.planner, who.settings(), episode)

        return EpisodeBatch(self.game, self.rules, missing, finished, self.envs, who.max_steps, self.options)

    def played(self, who: PlayerSettings, seeds: Sequence[int]) -> list[Episode]:
        """The finished episodes of `who`, by number."""
        found = self._found(who, seeds)
        return [found[number] for number in sorted(found)]

    def root(self) -> dict[str, Any]:
        """What was played, for the manifest."""
        return roots(self.game, self.rules, **self.options)

    def _found(self, who: PlayerSettings, seeds: Sequence[int]) -> dict[int, Episode]:
        wanted = dict(enumerate(seeds))
        logged = self.log.found(who.planner).items()
        return {number: episode for number, episode in logged if wanted.get(number) == episode.seed}


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Statistics of raw returns (arXiv 2410.00564, evaluation), and the mean of the sign-clipped ones.

    `std` is None for a single episode: how far another would be from it is unknown. Where the game has achievements,
    their success rates and the score of these too.
    """
    scores, reached = np.array([episode.score for episode in episodes]), of_episodes(episodes)
    return ({} if reached is None else reached.to_json()) | {
        "mean": round(float(scores.mean()), 4),
        "std": round(float(scores.std(ddof=1)), 4) if len(scores) > 1 else None,
        "median": float(np.median(scores)),
        "iqm": round(iqm(scores.tolist()), 4),
        "clipped_mean": round(float(np.mean([episode.clipped_score for episode in episodes])), 4),
        "episodes": len(scores),
        "mean_length": round(float(np.mean([episode.length for episode in episodes])), 1),
    }


def episode_table(played: Mapping[str, Sequence[Episode]]) -> "pd.DataFrame":
    """All episodes by planner: emulator's seed, raw and sign-clipped return, length in agent steps, how it ended.

    Where the game has achievements, also how often each was reached, in a column of its own.
    """
    import pandas as pd

    return pd.DataFrame(
        [{"planner": name, **_flat(episode)} for name, episodes in played.items() for episode in episodes]
    )


def _flat(episode: Episode) -> dict[str, Any]:
    """Its row with a column for each achievement."""
    row = episode.row()
    return row | {COLUMN + name: count for name, count in row.pop("achievements", {}).items()}
