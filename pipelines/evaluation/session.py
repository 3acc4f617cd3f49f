"""A session of evaluation: the rules, the ROM, the seeds of the episodes, and the log of those that are finished.

Seeds on which settings are chosen are never among those whose scores are reported: the best of many settings owes
part of its score to the episodes that it was chosen on.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.environments.atari.environment import emulator_seeds
from pipelines.environments.atari.protocols import Protocol, protocol
from pipelines.environments.atari.roms import Rom, find, require, shipped
from pipelines.environments.rollout import Episode, Table
from pipelines.errors import UsageError
from pipelines.evaluation.episode_log import EpisodeLog
from pipelines.evaluation.player_settings import Entrant
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
class Sitting:
    """`envs` episodes are played at once (0: all). Every finished one is in the log: a kill loses the others."""

    rules: Protocol
    rom: Rom
    log: EpisodeLog
    envs: int = 0

    @classmethod
    def of(cls, rules: str, rom: Rom, folder: Path, envs: int = 0) -> "Sitting":
        """With the log in `folder`. Raises UsageError for an unknown protocol."""
        under = {"protocol": protocol(rules).name, "emulator": f"ale-py {version('ale-py')}", "rom_md5": rom.md5}
        return cls(protocol(rules), rom, EpisodeLog(folder, under), envs)

    @property
    def game(self) -> str:
        """Its name among the 60."""
        return self.rom.game

    def table(self, who: Entrant, seeds: Sequence[int]) -> Table:
        """The episodes of `who` that the log lacks; those that it gets are kept at once."""
        found = self._found(who, seeds)
        missing = {number: seed for number, seed in enumerate(seeds) if number not in found}
        if found:
            say(f"{self.game}, {who.planner}: {len(found)} of {len(seeds)} episodes were played already")

        def finished(episode: Episode) -> None:
            self.log.add(who.planner, who.settings(), episode)

        return Table(self.game, self.rules, missing, finished, self.envs, who.max_steps, self.rom)

    def played(self, who: Entrant, seeds: Sequence[int]) -> list[Episode]:
        """The finished episodes of `who`, by number."""
        found = self._found(who, seeds)
        return [found[number] for number in sorted(found)]

    def root(self) -> dict[str, Any]:
        """What was played, for the manifest."""
        return {
            "game": self.game,
            **self.log.under,
            "rom": self.rom.origin,
            "replays_rom": self.rom.is_replays,
            "sticky": self.rules.sticky,
            "noop_max": self.rules.noop_max,
            "max_steps": self.rules.max_steps,
        }

    def _found(self, who: Entrant, seeds: Sequence[int]) -> dict[int, Episode]:
        wanted = dict(enumerate(seeds))
        logged = self.log.found(who.planner).items()
        return {number: episode for number, episode in logged if wanted.get(number) == episode.seed}


def rom_of(game: str, folder: str = "", md5: str = "") -> Rom:
    """The ROM to play: yours where a folder is named, else ale-py's. Raises an error of one line for another md5."""
    ours = shipped(game)
    rom = find(game, Path(folder)) if folder else ours
    if rom.md5 == ours.md5:
        rom = ours
    elif not md5:
        raise UsageError(
            f"The ROM of {game} in {folder} is not ale-py's, and scores are known by their ROM: set "
            f"evaluate.rom_md5={rom.md5} too, as 'worldline evaluate --rom-dir' does"
        )
    if md5 and rom.md5 != md5:
        require(game, md5)
    return rom
