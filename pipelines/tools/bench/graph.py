"""What the graph costs beside the work: loading it, listing and tracing many artefacts, a partition's overhead.

The store is full of artefacts that nobody computed, each with a manifest and a small file, in the numbers that a year
of work leaves: 60 games x 5 agents of replay, 200 experiments, a leaderboard of 10,000 scores. Each figure is the
median of processes of their own, as a user starts them. A daemon of its own drains a backfill of 300 replays that
stand, so that all of its time is Dagster's. Command: `worldline bench graph`.
"""

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines import process
from pipelines.environments.atari.games import GAMES
from pipelines.errors import WorldlineError, unknown
from pipelines.progress import track
from pipelines.store.artefact import Draft
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store

AGENTS = 5


@dataclass(frozen=True)
class Sizes:
    """How many experiments there are, and scores on the leaderboard; rounds of each measurement; partitions that are
    made again in process, and that the daemon drains."""

    experiments: int = 200
    scores: int = 10_000
    rounds: int = 3
    partitions: int = 20
    drained: int = 300


FULL, QUICK = Sizes(), Sizes(experiments=3, scores=20, rounds=1, partitions=2, drained=4)


@dataclass(frozen=True)
class Figure:
    """One measurement: seconds, at most how many were aimed at (None for no aim), and what else was seen."""

    name: str
    what: str
    seconds: float
    aim: float | None = None
    more: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the aim was, where there is one."""
        return None if self.aim is None else self.seconds <= self.aim

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"reached": self.reached}


def run(folder: Path, sizes: Sizes = FULL, only: str = "") -> list[Figure]:
    """Measure all, or what `only` names, with homes below `folder`.

    Raises UsageError for an unknown name, WorldlineError where a process fails.
    """
    if only and only not in MEASURED:
        raise unknown("figure", only, tuple(MEASURED), "without --only all but the backfill are measured")
    names = [only] if only else [name for name in MEASURED if name != BACKFILL]
    return [figure for name in names for figure in MEASURED[name](folder, sizes)]


def _load(folder: Path, sizes: Sizes) -> list[Figure]:
    what = "the code location, loaded and resolved"
    return [Figure("load", what, _told(folder / "graph-load", sizes.rounds, "load"), 3.0)]


def _list(folder: Path, sizes: Sizes) -> list[Figure]:
    home, _ = _year(folder, sizes)
    replays = len(GAMES) * AGENTS
    what = f"worldline list: {replays} replays, {sizes.scores:,} scores of {sizes.experiments} experiments"
    return [Figure("list", what, _taken(home, sizes.rounds, "list"), 10.0)]


def _lineage(folder: Path, sizes: Sizes) -> list[Figure]:
    home, board = _year(folder, sizes)
    what = f"worldline lineage of a leaderboard of {sizes.scores:,} scores, as JSON"
    return [Figure("lineage", what, _taken(home, sizes.rounds, "lineage", str(board), "--json"), 2.0)]


def _partition(folder: Path, sizes: Sizes) -> list[Figure]:
    seconds = _told(_fresh(folder), 1, "partition", str(sizes.partitions))
    return [Figure("partition", "Dagster's share of a partition in process", seconds, 0.3)]


def _backfill(folder: Path, sizes: Sizes) -> list[Figure]:
    """A partition of a backfill: by the daemon, a run and a process each; in one process; without Dagster."""
    count = sizes.drained
    told = json.loads(_run(_fresh(folder), process.command("assets.bench", "drain", str(count)))[1].splitlines()[-1])
    in_turn, bare = told.pop("in_turn"), told.pop("bare")
    what = (
        f"a partition of a backfill of {count} that a daemon drains: {{wall:.0f}} s in all, the first run after "
        "{first:.0f} s, {beside:.0f} side by side, 0 failed; of a run {start:.1f} s from launch to first event, "
        "{run:.1f} s from there to its end, {empty:.1f} s its place was empty before; {cpu:.1f} s of CPU"
    )
    return [
        Figure(BACKFILL, what.format(**told), told["wall"] / count, more=told),
        Figure("in turn", "one of the same in one process, a run each", in_turn),
        Figure("bare", "one of the same without Dagster", bare),
    ]


BACKFILL = "backfill"
MEASURED = {"load": _load, "list": _list, "lineage": _lineage, "partition": _partition, BACKFILL: _backfill}


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | seconds | aim | reached |", "|---|---|---|---|"]
    for each in figures:
        aim = "" if each.aim is None else f"{each.aim:g}"
        reached = {True: "yes", False: "NO", None: ""}[each.reached]
        lines.append(f"| {each.what} | {each.seconds:.2f} | {aim} | {reached} |")
    return "\n".join(lines)


def _fresh(folder: Path) -> Path:
    """A home in which nothing is."""
    shutil.rmtree(folder / "graph-fresh", ignore_errors=True)
    return folder / "graph-fresh"


def _year(folder: Path, sizes: Sizes) -> tuple[Path, Ref]:
    """A home as it is after a year, and the address of its leaderboard."""
    home = folder / f"graph-{sizes.experiments}x{sizes.scores}"
    return home, fill(home, sizes)


def fill(home: Path, sizes: Sizes) -> Ref:
    """A store as it is after a year, kept for the next run; the address of its leaderboard."""
    store = Store(home / "store")
    replays = [Spec("replay", f"{game}/{agent}", "1", {}) for game in GAMES for agent in range(1, AGENTS + 1)]
    agents = [
        Spec("world_action_model", f"wide{number}", "1", {"seed": number}, tuple(spec.ref for spec in replays[:2]))
        for number in range(sizes.experiments)
    ]
    scores = [
        Spec("scores", GAMES[number % len(GAMES)], "1", {"round": number}, (agents[number % len(agents)].ref,))
        for number in range(sizes.scores)
    ]
    board = Spec("leaderboard", "all", "1", {}, tuple(spec.ref for spec in scores))
    specs = [*replays, *agents, *scores, board]
    with track("Fill a store", len(specs), "artefacts") as advance:
        for number, spec in enumerate(specs):
            if store.find(spec.ref) is None:
                store.produce(spec, _build)
                names = [spec.stage, f"wide{number % sizes.experiments}-0a1b2c3d", *spec.subject.split("/")]
                store.point("/".join(names if spec.stage == "scores" else [spec.stage, spec.subject]), spec.ref)
            advance(1)
    return board.ref


def _build(draft: Draft) -> None:
    draft.path("data.bin").write_bytes(draft.spec.key.encode())
    draft.counts |= {"episodes": 16}


def _taken(home: Path, rounds: int, *arguments: str) -> float:
    """Median seconds of a command of ours, from the start of its process to its end."""
    return statistics.median(_run(home, process.command("pipelines.cli", *arguments))[0] for _ in range(rounds))


def _told(home: Path, rounds: int, *arguments: str) -> float:
    """Median of the seconds that a measurement of `assets.bench` tells."""
    lines = [_run(home, process.command("assets.bench", *arguments))[1] for _ in range(rounds)]
    return statistics.median(float(each.splitlines()[-1]) for each in lines)


def _run(home: Path, command: Sequence[str]) -> tuple[float, str]:
    environment = os.environ | process.environment() | {"WORLDLINE_HOME": str(home), "WORLDLINE_STORAGE": ""}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise WorldlineError(f"'{' '.join(command[-3:])}' failed and cannot be measured: {last}")
    return time.perf_counter() - started, done.stdout
