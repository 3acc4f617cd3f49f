"""Checkpoints kept on the way: the newest few, and the best few by what they returned in play.

`checkpoints/step-N/` holds a run's networks under the names that they have in the artefact; `checkpoints/index.json`
lists them with their returns. They lie in the scratch folder while a run goes on and in its artefact in the end. Cost:
one write of the networks each, and the plays.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipelines.configs.learn import LoopConfig
from pipelines.errors import UsageError
from pipelines.training.ranks import ALONE, Ranks

FOLDER = "checkpoints"
INDEX = "index.json"


def kept_folder(step: int) -> str:
    """Where the checkpoint of a step lies, below the scratch folder or the artefact."""
    return f"{FOLDER}/step-{step}"


def kept_steps(names: Iterable[str]) -> list[int]:
    """The steps of the checkpoints among an artefact's files, in order."""
    found = (re.match(rf"{FOLDER}/step-(\d+)/", name) for name in names)
    return sorted({int(each[1]) for each in found if each})


@dataclass(frozen=True)
class Kept:
    """One checkpoint: steps done, mean return by game where it was played, and whether it is among the best."""

    step: int
    returns: Mapping[str, float] = field(default_factory=dict)
    best: bool = False

    @property
    def score(self) -> float:
        """What `best` goes by: the mean over games."""
        return sum(self.returns.values()) / len(self.returns)


@dataclass(frozen=True)
class Keeper:
    """Makes, plays and drops checkpoints under `scratch`.

    save: writes the networks into a folder. play: mean returns by game, called on all ranks; None where a run has
    nothing that plays. Raises UsageError when plays are asked for and there is none.
    """

    scratch: Path
    loop: LoopConfig
    save: Callable[[Path], None]
    play: Callable[[], Mapping[str, float]] | None = None
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        if self.loop.evaluate_every and self.play is None:
            raise UsageError(
                f"loop.evaluate_every is {self.loop.evaluate_every}, but nothing that this stage trains can play: "
                "set it for the train stage"
            )

    @property
    def folder(self) -> Path:
        """Where they lie while the run goes on."""
        return self.scratch / FOLDER

    def after(self, step: int) -> bool:
        """Keep a checkpoint if one is due after `step` steps; tells whether it was, the same on all ranks."""
        played = self.loop.evaluate_every and step % self.loop.evaluate_every == 0
        if not played and not (self.loop.checkpoint_every and step % self.loop.checkpoint_every == 0):
            return False
        returns = self.play() if played and self.play else {}
        if self.ranks.first:
            aside = self.folder / f".step-{step}"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            self.save(aside)
            shutil.rmtree(self._place(step), ignore_errors=True)
            aside.rename(self._place(step))
            self._settle([*(each for each in self.kept() if each.step != step), Kept(step, returns)])
        return True

    def kept(self) -> list[Kept]:
        """What there is, oldest first."""
        path = self.folder / INDEX
        return [Kept(**entry) for entry in json.loads(path.read_text())] if path.exists() else []

    def forget_after(self, step: int) -> None:
        """Drop checkpoints that a resumed run will make again."""
        if self.ranks.first and self.folder.exists():
            self._settle([each for each in self.kept() if each.step <= step])

    def copy_to(self, artefact: Path) -> None:
        """Put them into the finished artefact."""
        if self.folder.exists():
            shutil.copytree(self.folder, artefact / FOLDER, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)

    def _settle(self, found: list[Kept]) -> None:
        """Keep the newest and the best of `found`, which is in order; first the index, then the folders."""
        played = sorted((each for each in found if each.returns), key=lambda each: (each.score, each.step))
        best = {each.step for each in played[max(len(played) - self.loop.keep_best, 0) :]}
        last = {each.step for each in found[-self.loop.keep_last :]}
        left = [Kept(each.step, each.returns, each.step in best) for each in found if each.step in best | last]
        aside = self.folder / f".{INDEX}"
        aside.write_text(json.dumps([asdict(each) for each in left], indent=1) + "\n")
        aside.replace(self.folder / INDEX)
        known = {self._place(each.step) for each in left}
        for folder in self.folder.glob("step-*"):
            if folder not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def _place(self, step: int) -> Path:
        return self.scratch / kept_folder(step)
