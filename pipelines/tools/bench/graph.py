"""What the graph costs beside the work: loading it, listing and tracing many artefacts, a partition's overhead.

The store is full of artefacts that nobody computed, each with a manifest and a small file, in the numbers that a year
of work leaves: 60 games x 5 agents of replay, 200 experiments, a leaderboard of 10,000 scores. Each figure is the
median of processes of their own, as a user starts them. Command: `worldline bench graph`.
"""

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines import process
from pipelines.environments.registry import GAMES
from pipelines.errors import WorldlineError
from pipelines.progress import track
from pipelines.store.artefact import Draft
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store

AGENTS = 5


@dataclass(frozen=True)
class Sizes:
    """How many experiments there are, and scores on the leaderboard; rounds of each measurement."""

    experiments: int = 200
    scores: int = 10_000
    rounds: int = 3
    partitions: int = 20


FULL, QUICK = Sizes(), Sizes(experiments=3, scores=20, rounds=1, partitions=2)


@dataclass(frozen=True)
class Figure:
    """One measurement: seconds, and at most how many were aimed at."""

    name: str
    what: str
    seconds: float
    aim: float

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"reached": self.seconds <= self.aim}


def run(folder: Path, sizes: Sizes = FULL) -> list[Figure]:
    """Measure all, with homes below `folder`. Raises WorldlineError where a process fails."""
    home = folder / f"graph-{sizes.experiments}x{sizes.scores}"
    board = fill(home, sizes)
    replays = len(GAMES) * AGENTS
    listed = f"worldline list: {replays} replays, {sizes.scores:,} scores of {sizes.experiments} experiments"
    fresh = folder / "graph-fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    return [
        Figure("load", "the code location, loaded and resolved", _told(home, sizes.rounds, "load"), 3.0),
        Figure("list", listed, _taken(home, sizes.rounds, "list"), 10.0),
        Figure(
            "lineage",
            f"worldline lineage of a leaderboard of {sizes.scores:,} scores, as JSON",
            _taken(home, sizes.rounds, "lineage", str(board), "--json"),
            2.0,
        ),
        Figure(
            "partition",
            "Dagster's share of a partition in process",
            _told(fresh, 1, "partition", str(sizes.partitions)),
            0.3,
        ),
    ]


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | seconds | aim | reached |", "|---|---|---|---|"]
    for each in figures:
        reached = "yes" if each.seconds <= each.aim else "NO"
        lines.append(f"| {each.what} | {each.seconds:.2f} | {each.aim:g} | {reached} |")
    return "\n".join(lines)


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
