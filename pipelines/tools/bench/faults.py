"""What a fault leaves behind: every stage of `mini` is struck by every fault while it works, and then made again.

A cell survived when the rerun completes, the lineage of what it made verifies byte for byte, its files are those of an
undisturbed run, nothing that stood before was made again and a further run makes nothing, and no process, lock, run of
Dagster, place in a pool or private folder is left. Faults strike at a random moment of the stage's work; where that was
too late the cell is tried anew and struck earlier. Files that differ between two undisturbed runs (times are in them)
are not compared, and named below the table. Command: `worldline bench faults`.
"""

import json
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from pipelines.errors import WorldlineError, unforeseen, unknown
from pipelines.progress import say
from pipelines.tools.bench.emulator import URL, Served, bucket
from pipelines.tools.bench.fault_home import NAME, Blow, Failed, Home, Missed, Untried, contents, stages_of, undisturbed
from pipelines.tools.bench.fault_kinds import FAULTS, RANKS, Fault, on_two_ranks

TRIES = 5
SURVIVED, FAILED, UNTRIED, FAST = "survived", "FAILED", "not tried", "too fast"
QUICK = ("segments", "pretrained")  # stages: one that writes little and does not train, one that trains


@dataclass(frozen=True)
class Cell:
    """One fault in one stage: what came of it, why, and the seconds of it all."""

    stage: str
    fault: str
    verdict: str
    why: str = ""
    seconds: float = 0.0
    tries: int = 1

    def __str__(self) -> str:
        if self.verdict == SURVIVED:
            return f"survived, {self.seconds:.0f} s"
        return f"{self.verdict}: {self.why}" if self.why else self.verdict


@dataclass
class Matrix:
    """All cells of one run. `unsteady`: by stage, files that differ between two undisturbed runs."""

    seed: int
    cells: list[Cell] = field(default_factory=list)
    unsteady: dict[str, list[str]] = field(default_factory=dict)

    @property
    def survived(self) -> bool:
        """Whether no cell failed."""
        return all(cell.verdict != FAILED for cell in self.cells)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"survived": self.survived}


@dataclass(frozen=True)
class Ground:
    """Where cells come from: a home where all was made undisturbed, and the same with data from a bucket."""

    folder: Path
    seed: int
    home: Home
    bucket: Home | None = None
    server: Served | None = None
    one_at_a_time: Lock = field(default_factory=Lock)  # for those who tell the one bucket what to do

    def of(self, fault: Fault) -> Home:
        """The home to copy for a fault."""
        return self.bucket if fault.bucket and self.bucket is not None else self.home


def run(folder: Path, only: str = "", quick: bool = False, seed: int = 0, jobs: int = 1) -> Matrix:
    """Fill the matrix, or the row or the column `only`, in homes below `folder`, `jobs` rows at a time.

    Raises UsageError where `only` is neither a stage nor a fault, WorldlineError where the undisturbed run fails.
    """
    from pipelines.recipes.registry import recipe

    folder = folder / "faults"
    shutil.rmtree(folder, ignore_errors=True)
    stages = [*_stages(recipe(NAME))]
    if only and only not in (*stages, *FAULTS):
        raise unknown("stage or fault", only, (*stages, *FAULTS), "without --only all are tried")
    rows = [only] if only in stages else [stage for stage in stages if stage in QUICK or not quick]
    chosen = [only] if only in FAULTS else list(FAULTS)
    rows = [stage for stage in rows if any(FAULTS[name].concerns(stage) for name in chosen)]
    matrix = Matrix(seed)
    with ExitStack() as stack:
        home = undisturbed(folder / "undisturbed" / "home", environment={"WORLDLINE_STORAGE": ""})
        ground = Ground(folder, seed, home)
        if any(FAULTS[name].bucket and FAULTS[name].concerns(stage) for name in chosen for stage in rows):
            ground = _with_bucket(ground, stack)
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        for part in pool.map(lambda stage: _row(ground, stage, chosen), rows):
            matrix.cells += part.cells
            matrix.unsteady |= part.unsteady
    shutil.rmtree(folder / "undisturbed", ignore_errors=True)
    return matrix


def _stages(of: Any) -> list[str]:
    from pipelines.graph.experiment import Experiment

    return stages_of(Experiment(NAME, of))


def _with_bucket(ground: Ground, stack: ExitStack) -> Ground:
    """The same with what was collected put into an emulated bucket, and all made from there."""
    collected = ground.home.artefacts()["collected_replay"].folder
    server = stack.enter_context(bucket(collected))
    profile = ground.folder / "bucket.yaml"
    profile.write_text(json.dumps({"replay_root": URL, "options": server.options}))  # JSON is YAML
    storage = {"WORLDLINE_STORAGE": str(profile), "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    home = undisturbed(ground.folder / "undisturbed" / "bucket", ("source=bucket",), storage)
    return Ground(ground.folder, ground.seed, ground.home, home, server)


def _row(ground: Ground, stage: str, chosen: Sequence[str]) -> Matrix:
    """All chosen faults of one stage; the controls come first and say what is compared."""
    matrix = Matrix(ground.seed)
    made = contents(ground.home.artefacts()[stage])
    again: dict[str, str] = {}
    control = try_cell(ground, stage, "none", FAULTS["none"], {}, again)
    unsteady = sorted(name for name, hashed in made.items() if again.get(name) != hashed)
    if unsteady and control.verdict == SURVIVED:
        matrix.unsteady[stage] = unsteady
    for name in chosen:
        fault = FAULTS[name]
        if name == "none":
            cell = control
        elif not fault.concerns(stage):
            if fault.elsewhere:
                matrix.cells.append(Cell(stage, name, UNTRIED, fault.elsewhere))
            continue
        elif control.verdict != SURVIVED:
            cell = Cell(stage, name, UNTRIED, "the stage fails undisturbed")
        else:
            expected = contents(ground.of(fault).artefacts()[stage])
            if fault.ranks:
                try_cell(ground, stage, "rank", Fault("", on_two_ranks, ranks=True), {}, expected)
            steady = {path: hashed for path, hashed in expected.items() if path not in unsteady}
            with ground.one_at_a_time if fault.bucket else nullcontext():
                cell = try_cell(ground, stage, name, fault, steady)
        matrix.cells.append(cell)
        say(f"{stage}, {FAULTS[name].head}: {cell}")
    return matrix


def try_cell(
    ground: Ground,
    stage: str,
    name: str,
    fault: Fault,
    content: Mapping[str, str],
    made: dict[str, str] | None = None,
) -> Cell:
    """Strike, earlier each time it came too late, and judge. `made` is filled with what stands in the end.

    The home of a cell that failed is kept for a look at it.
    """
    started, rng = time.monotonic(), random.Random(f"{ground.seed} {stage} {name}")
    source = ground.of(fault)
    undisturbed_one = source.artefacts()[stage].manifest
    blow_of = _blows(rng, undisturbed_one.cost["seconds"], undisturbed_one.total_bytes, ground.server)
    verdict, why, number = FAST, "", 0
    folder = ground.folder / f"{stage}-{name}"
    for number in range(1, TRIES + 1):
        home = source.copy(folder / "home", stage)
        try:
            before = home.artefacts()
            fault.strike(home, blow_of(number))
            if fault.rerun:
                home.make(**(RANKS if fault.ranks else {})).ends_well("the rerun")
            home.judge(before, content)
            verdict, why = SURVIVED, ""
            if made is not None:
                made |= contents(home.artefacts()[stage])
        except Missed as error:
            why = str(error)
            continue
        except (Failed, Untried) as error:
            verdict, why = FAILED if isinstance(error, Failed) else UNTRIED, str(error)
        except (WorldlineError, OSError) as error:
            verdict, why = FAILED, str(error) if isinstance(error, WorldlineError) else unforeseen(error)
        finally:
            home.clear()
        break
    if verdict != FAILED:
        shutil.rmtree(folder, ignore_errors=True)
    return Cell(stage, name, verdict, why.replace("|", "/"), time.monotonic() - started, number)


def _blows(rng: random.Random, seconds: float, room: int, server: Any) -> Callable[[int], Blow]:
    """The blow of each try: later tries strike earlier, the last one at once."""

    def blow(number: int) -> Blow:
        return Blow(rng, 0.0 if number == TRIES else 0.8 / 2 ** (number - 1), seconds, room, server)

    return blow


def table(matrix: Matrix) -> str:
    """The matrix as a Markdown table, its count, and below it what was not compared."""
    columns = [name for name in FAULTS if any(cell.fault == name for cell in matrix.cells)]
    cells = {(cell.stage, cell.fault): cell for cell in matrix.cells}
    lines = [f"| stage | {' | '.join(FAULTS[name].head for name in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for stage in dict.fromkeys(cell.stage for cell in matrix.cells):
        found = [cells.get((stage, name)) for name in columns]
        lines.append(f"| {stage} | {' | '.join('' if cell is None else str(cell) for cell in found)} |")
    struck = [cell for cell in matrix.cells if cell.fault != "none"]
    tried = [cell for cell in struck if cell.verdict in (SURVIVED, FAILED)]
    survived = sum(cell.verdict == SURVIVED for cell in tried)
    lines += ["", f"{len(struck)} cells, {len(tried)} tried, {survived} survived (seed {matrix.seed})."]
    for stage, names in matrix.unsteady.items():
        lines.append(f"Not compared in {stage}, other in every undisturbed run: {', '.join(names)}.")
    return "\n".join(lines)
