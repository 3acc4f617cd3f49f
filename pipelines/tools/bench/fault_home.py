"""A home in which one stage is made while something goes wrong, and what must hold in it afterwards.

Each home is a copy of one where all of `mini` was made undisturbed, without the stage and all that comes after it.
Commands run as a user's do, in processes of their own; a mark in their environment finds whatever they leave.
"""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines import process
from pipelines.errors import WorldlineError
from pipelines.graph.experiment import Experiment, find, register
from pipelines.graph.plan import Plan
from pipelines.graph.table import BOARD
from pipelines.recipes.registry import recipe
from pipelines.store.artefact import Artefact
from pipelines.store.files import locked_now
from pipelines.store.lineage import verify
from pipelines.store.manifest import digest
from pipelines.store.store import Store

MARK = "WORLDLINE_FAULT"
PATIENCE = 300.0  # seconds that a command may take; a crowded machine is no failure
LINGER = 30.0  # seconds in which what belongs to a dead run has to be gone
NAME = "mini"
CURVES = "metrics.jsonl"
THERE = "Everything was already there."


class Failed(WorldlineError):  # noqa: N818
    """A fault was not survived; says why."""


class Missed(WorldlineError):  # noqa: N818
    """The stage was done before the fault struck: nothing was tried."""


class Untried(WorldlineError):  # noqa: N818
    """This fault cannot be caused here; says why."""


@dataclass(frozen=True)
class Blow:
    """When a fault strikes: `share` of the `seconds` that the undisturbed stage took, after its work began.

    `room` is how many bytes the stage writes, `server` the emulated bucket that it reads, where it reads one.
    """

    rng: random.Random
    share: float
    seconds: float
    room: int
    server: Any = None

    def wait(self) -> float:
        """Seconds of work before it strikes."""
        return self.rng.random() * self.share * self.seconds


@dataclass
class Home:
    """`folder` is WORLDLINE_HOME; `stage` is made in it; `environment` is added to that of every command."""

    folder: Path
    stage: str
    environment: dict[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @cached_property
    def experiment(self) -> Experiment:
        """The one experiment of this home."""
        return find(self.folder / "experiments", NAME)

    def store(self) -> Store:
        """Opened anew, so that nothing is remembered."""
        return Store(self.folder / "store")

    def artefacts(self) -> dict[str, Artefact]:
        """What stands, by stage: mini makes one of each."""
        return {artefact.ref.stage: artefact for artefact in self.store().artefacts()}

    def copy(self, folder: Path, stage: str) -> "Home":
        """The same before `stage` was made."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        stages = stages_of(self.experiment)
        for each in stages[stages.index(stage) :]:
            for below in ("store", "store/refs"):
                shutil.rmtree(folder / below / each, ignore_errors=True)
        shutil.rmtree(folder / "store" / ".scratch", ignore_errors=True)
        return Home(folder, stage, dict(self.environment))

    # ---- commands ----

    def start(self, module: str, *arguments: str, **more: str) -> "Command":
        """Start a module of ours with the home's environment and `more`, in a session of its own."""
        ours = {"WORLDLINE_HOME": str(self.folder), "OMP_NUM_THREADS": "1", MARK: self.mark}
        environment = os.environ | self.environment | ours | more
        if "PYTHONPATH" in more:  # its folder, and then ours
            environment["PYTHONPATH"] = os.pathsep.join((more["PYTHONPATH"], os.environ.get("PYTHONPATH", "")))
        environment |= {"PYTHONSAFEPATH": "1"}
        if process.on_path():
            before = environment.get("PYTHONPATH", "").split(os.pathsep)
            environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((*filter(None, before), str(process.ROOT))))
        return Command(process.command(module, *arguments, parent=False), environment, self.folder.parent)

    def make(self, **more: str) -> "Command":
        """Start what makes the stage, as a user would."""
        arguments = ("materialize", "--experiment", self.experiment.key, "--until", self.stage, "--only", self.stage)
        return self.start("assets.launch", *arguments, **more)

    def begun(self) -> bool:
        """Whether the stage works: its private folder is there."""
        try:
            private = (self.folder / "store" / ".partial").iterdir()
            return any(path.name.startswith(f"{self.stage}@") for path in private)
        except FileNotFoundError:
            return False

    def stands(self) -> bool:
        """Whether the stage's artefact is there."""
        return any((self.folder / "store" / self.stage).rglob("manifest.json"))

    def at_work(self, command: "Command", seconds: float) -> None:
        """Return `seconds` after the stage's work began. Raises Missed where it is done by then."""
        until = time.monotonic() + PATIENCE
        while not self.begun():
            if command.ended() or self.stands():
                command.end()
                raise Missed("it was done before it was seen to begin")
            if time.monotonic() > until:
                raise Failed(f"it did not begin within {PATIENCE:.0f} s")
            time.sleep(0.0005)
        time.sleep(seconds)
        if self.stands() or command.ended():
            command.end()
            raise Missed("it was done already")

    # ---- what must hold ----

    def left(self) -> list[Any]:
        """The living processes that commands of this home started."""
        return [each for each in importlib.import_module("psutil").process_iter() if _marked(each, self.mark)]

    def judge(self, before: Mapping[str, Artefact], content: Mapping[str, str]) -> None:
        """Whether the stage stands as `content` says (hash by file), and the home is as if nothing had happened.

        Raises Failed with the first difference.
        """
        store, found = self.store(), self.artefacts()
        made = found.get(self.stage)
        if made is None:
            raise Failed("the rerun ended well and made nothing")
        if faults := verify(store, made.ref):
            raise Failed(f"not verified: {faults[0]}")
        now = contents(made)
        if differ := sorted(name for name, hashed in content.items() if now.get(name) != hashed):
            raise Failed(f"{differ[0]} differs from an undisturbed run's")
        for stage, artefact in before.items():
            if stage not in found or found[stage].digest != artefact.digest:
                raise Failed(f"{stage} stood before and was made again")
        for folder in (store.root / ".partial", store.scratch):
            own = [path.name for path in folder.glob(f"{self.stage}@*")] if folder.is_dir() else []
            if own:
                raise Failed(f"{folder.name}/{own[0]} is left")
        self._judge_locks()
        self._judge_dagster()
        self._judge_processes()

    def _judge_locks(self) -> None:
        for folder in (self.folder / "store" / ".locks", self.folder / "dagster" / "processes"):
            for path in folder.rglob("*") if folder.is_dir() else ():
                with locked_now(path) as free:
                    if not free:
                        raise Failed(f"{path.name} is locked by nobody who is known")

    def _judge_dagster(self) -> None:
        told = self.start("assets.bench", "left", self.experiment.key, self.stage).told()
        if told["unfinished"]:
            raise Failed(f"Dagster's run {told['unfinished'][0]} is unfinished for ever")
        if told["slots"]:
            raise Failed(f"{told['slots']} places of pools are taken by nobody")
        if THERE not in told["again"]:
            raise Failed(f"a further run did not find it: {told['again'].splitlines()[-1:]}")

    def _judge_processes(self) -> None:
        until = time.monotonic() + LINGER
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.1)
        if left:
            names = [" ".join(each.cmdline())[-60:] for each in left]
            raise Failed(f"{len(left)} processes are left: {names[0]}")

    def clear(self) -> None:
        """End whatever runs here still."""
        for each in self.left():
            each.kill()


class Command:
    """A process of ours, at the head of its session; what it says is in `log`."""

    def __init__(self, line: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.log = folder / f"{uuid.uuid4().hex[:8]}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                line, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def ended(self) -> bool:
        """Whether it is over."""
        return self.process.poll() is not None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it alone."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit code, once it is over. Raises Failed where it is not after PATIENCE, and kills it then."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"the command hung for {PATIENCE:.0f} s: {self.last()}") from None

    def ends_well(self, what: str) -> None:
        """Raises Failed with its last line where its exit code is not 0."""
        if code := self.end():
            raise Failed(f"{what} ended with code {code}: {self.last()}")

    def ends_badly(self, *codes: int, saying: str = "") -> None:
        """Raises Failed where it ends with another code than these, shows a traceback, or does not say `saying`."""
        code, said = self.end(), self.said()
        if code not in codes:
            raise Failed(f"the struck command ended with code {code}: {self.last()}")
        if "Traceback (most recent call last)" in said:
            raise Failed(f"the struck command showed a traceback: {self.last()}")
        if saying not in said:
            raise Failed(f"the struck command did not say '{saying}': {self.last()}")

    def said(self) -> str:
        """All that it printed."""
        return self.log.read_text(errors="replace")

    def last(self) -> str:
        """Its last line."""
        lines = [line.strip() for line in self.said().replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1][:200] if lines else "(it said nothing)"

    def told(self) -> dict[str, Any]:
        """Its last line as JSON."""
        self.ends_well("the look at what is left")
        found: dict[str, Any] = json.loads(self.said().splitlines()[-1])
        return found


def undisturbed(folder: Path, changes: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> Home:
    """A home in which all of `mini` with `changes` stands. Raises Failed where that cannot be made."""
    shutil.rmtree(folder, ignore_errors=True)
    made = register(folder / "experiments", NAME, recipe("mini", changes))
    home = Home(folder, BOARD, dict(environment or {}))
    command = home.start("assets.launch", "materialize", "--experiment", made.key, "--until", BOARD)
    try:
        command.ends_well("the undisturbed run")
    finally:
        home.clear()  # told to stop meanwhile, the bench leaves nothing at work
    return home


def stages_of(experiment: Experiment) -> list[str]:
    """The stages of an experiment in their order, and the leaderboard."""
    return [*Plan(experiment.recipe, "file:///").stages, BOARD]


def contents(artefact: Artefact) -> dict[str, str]:
    """Hash by file; of the curves of a training without the seconds that each row took."""
    found = {entry.path: entry.sha256 for entry in artefact.manifest.files}
    if CURVES in found:
        rows = [json.loads(line) for line in artefact.path(CURVES).read_text().splitlines()]
        found[CURVES] = digest(json.dumps([{**row, "seconds": 0} for row in rows]).encode())
    return found


def damage(home: Home, rng: random.Random, known: set[tuple[int, int]], since: float) -> int:
    """What a power cut may do to all that was written since a moment and not synced; how many files it hit.

    A file may be gone, empty, cut short, or zeros. Dagster's databases are SQLite's own care.
    """
    hit = 0
    for path in _files(home.folder):
        found = path.stat()
        if found.st_mtime < since or (found.st_ino, found.st_mtime_ns) in known or rng.random() < 0.2:
            continue
        hit += 1
        how = rng.choice(("gone", "empty", "cut", "zeros"))
        if how == "gone":
            path.unlink()
        elif how == "zeros":
            path.write_bytes(bytes(found.st_size))
        else:
            os.truncate(path, 0 if how == "empty" else rng.randrange(found.st_size + 1))
    return hit


def _files(folder: Path) -> Iterator[Path]:
    for part in ("store", "experiments"):
        yield from (path for path in sorted((folder / part).rglob("*")) if path.is_file() and not path.is_symlink())


def _marked(each: Any, mark: str) -> bool:
    try:
        return each.status() != "zombie" and each.environ().get(MARK) == mark
    except importlib.import_module("psutil").Error:  # another user's, or gone meanwhile
        return False
