"""A session of evaluation: the rules, the ROM, the seeds of the episodes, and the log of those that are finished.

Seeds on which settings are chosen are never among those whose scores are reported: the best of many settings owes
part of its score to the episodes that it was chosen on.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.environments.environment import Rules, emulator_seeds
from pipelines.environments.registry import protocol, roots
from pipelines.environments.rollout import Episode, EpisodeBatch
from pipelines.evaluation.episode_log import EpisodeLog
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.progress import say

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
        return cls(game, protocol(rules), EpisodeLog(folder, under), envs, given)

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
