"""Many steps at once: here, a process a lane, or as a backfill of Dagster that its daemon drains under the pools.

Here, each lane is a child that runs its steps as Dagster runs, tells what became of each through a pipe, and writes
what it says into a log file of its own. One that fails stops only what is made from it. Told to stop, this process
ends its children; killed, it takes them along.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg
from rich.table import Table

from assets.partitions import partition_of
from assets.resources import REMAKE, STORAGE
from assets.runner import Runner
from pipelines import process
from pipelines.graph import table
from pipelines.graph.backfill import FAILED, WAITS, Lane, Outcome, lanes, parents, read_step, waiting
from pipelines.graph.plan import Step
from pipelines.home import home, server
from pipelines.progress import printer
from pipelines.redact import one_line, redact

PATIENCE = 30.0  # seconds that children get to end in order
LOGS = "logs"  # in the home: a folder for each backfill
LOGS_KEPT = 30
POOL_LIMIT = 1  # what a pool admits of which nobody set a limit


@dataclass
class Running:
    """A lane in its process. `told` is the end of the pipe on which its outcomes come."""

    lane: Lane
    steps: list[Step]
    child: subprocess.Popen[bytes]
    told: int
    rest: bytes = b""

    def hear(self) -> list[bytes] | None:
        """The whole lines that came; None when no more will."""
        if not (raw := os.read(self.told, 1 << 16)):
            return None
        *lines, self.rest = (self.rest + raw).split(b"\n")
        return lines


class Crew:
    """Runs lanes side by side, at most `jobs`, and of those that share a pool as many as it admits."""

    def __init__(self, runner: Runner, steps: Sequence[Step], jobs: int) -> None:
        self.runner, self.steps, self.jobs = runner, list(steps), jobs
        self.waiting = lanes(steps)
        self.running: dict[int, Running] = {}
        self.done: dict[Step, Outcome] = {}
        self.logs = _log_folder()
        self.limits = {limit.name: limit.limit for limit in runner.instance.event_log_storage.get_pool_limits()}

    def outcomes(self) -> Iterator[Outcome]:
        """What becomes of every step, in the order in which it becomes known. Raises KeyboardInterrupt when told."""
        with selectors.DefaultSelector() as ears, self._ending():
            while self.waiting or self.running:
                yield from self._begin(ears)
                for key, _ in ears.select() if self.running else ():  # a select of nothing waits for ever
                    at: Running = key.data
                    if (lines := at.hear()) is None:
                        ears.unregister(at.told)
                        yield from self._end(at)
                    else:
                        yield from map(self._note, lines)

    def log_of(self, step: Step) -> Path:
        """Where the lane of a step writes."""
        name = next(lane.name for lane in lanes(self.steps) if step in lane.steps)
        return self.logs / f"{name}.log"

    def _begin(self, ears: selectors.BaseSelector) -> Iterator[Outcome]:
        """Start every lane whose parents are decided and for which there is room; tell the steps that cannot be."""
        for lane in list(self.waiting):
            if not all(each in self.done for step in lane.steps for each in self._above(lane, step)):
                continue
            lost = {step for step, outcome in self.done.items() if outcome.state in (FAILED, WAITS)}
            steps = []
            for step in lane.steps:
                if step not in self.done and (why := waiting(self.runner.plan, step, self.steps, lost)):
                    lost.add(step)
                    self.done[step] = Outcome(step, WAITS, text=f"for {why}")
                    yield self.done[step]
                if step not in self.done:
                    steps.append(step)
            if steps and not self._room(lane):
                continue
            self.waiting.remove(lane)
            if steps:
                at = self._start(lane, steps)
                self.running[at.child.pid] = at
                ears.register(at.told, selectors.EVENT_READ, at)

    def _above(self, lane: Lane, step: Step) -> set[Step]:
        return parents(self.runner.plan, step, self.steps) - set(lane.steps)

    def _room(self, lane: Lane) -> bool:
        if len(self.running) >= self.jobs:
            return False
        for pool in _pools(lane.steps):
            users = sum(pool in _pools(at.steps) for at in self.running.values())
            if users >= max(self.limits.get(pool, POOL_LIMIT), 1):  # a pool of 0 holds back the daemon alone
                return False
        return True

    def _start(self, lane: Lane, steps: list[Step]) -> Running:
        read, write = os.pipe()
        asked = [*self.runner.data.arguments(), "--steps", ",".join(map(str, steps))]
        line = process.command("assets.launch", "lane", *asked, "--tell", str(write))
        with (self.logs / f"{lane.name}.log").open("ab") as log:
            child = subprocess.Popen(
                line,
                env=os.environ | process.environment() | self.runner.installation.environment(),
                pass_fds=[write],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(write)
        return Running(lane, steps, child, read)

    def _note(self, line: bytes) -> Outcome:
        told = json.loads(line)
        outcome = Outcome(**{**told, "step": read_step(told["step"])})
        self.done[outcome.step] = outcome
        return outcome

    def _end(self, at: Running) -> Iterator[Outcome]:
        """A lane whose process is over: what it did not tell of failed with it."""
        os.close(at.told)
        code = at.child.wait()
        del self.running[at.child.pid]
        for step in at.steps:
            if step not in self.done:
                why = _last_line(self.logs / f"{at.lane.name}.log") or f"its process ended with {code}"
                self.done[step] = Outcome(step, FAILED, text=why, code=code if code in (1, 2) else 1)
                yield self.done[step]

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Whatever happens within, no child is left: in order where they can, by force after a while."""
        try:
            yield
        finally:
            until = time.monotonic() + PATIENCE
            for at in self.running.values():
                at.child.terminate()
            for at in self.running.values():
                try:
                    at.child.wait(max(until - time.monotonic(), 0.1))
                except subprocess.TimeoutExpired:
                    at.child.send_signal(signal.SIGKILL)
                    at.child.wait()
                os.close(at.told)


def tell(runner: Runner, steps: Sequence[Step], end: int) -> int:
    """A lane's process: run the steps, and tell the one who started it through the pipe's `end`."""
    with os.fdopen(end, "w", encoding="utf-8") as pipe:
        for outcome in runner.outcomes(steps):
            print(json.dumps({**asdict(outcome), "step": str(outcome.step)}), file=pipe, flush=True)
            print(f"{outcome.step} {outcome.state} {outcome.text}", flush=True)
    return 0


def report(crew: Crew) -> None:
    """The table of a backfill on standard output, and a line for each failure."""
    view = Table("game", "stage", "state", "seconds", "log", box=None, header_style="bold")
    for step in crew.steps:
        outcome, log = crew.done[step], crew.log_of(step)
        stage = step.stage if step.agent is None else f"{step.stage} {step.agent}"
        state = f"{WAITS} {outcome.text}" if outcome.state == WAITS else outcome.state
        seconds = f"{outcome.seconds:,.1f}" if outcome.seconds else ""
        view.add_row(step.game or "all", stage, state, seconds, log.name if log.exists() else "")
    printer().print(view, soft_wrap=True)
    print(f"Logs: {crew.logs}")
    for step in crew.steps:
        if crew.done[step].state == FAILED:
            print(f"{step} failed: {crew.done[step].text} (log: {crew.log_of(step)})", file=sys.stderr, flush=True)


# ---- for the daemon ----


def enqueue(runner: Runner, steps: Sequence[Step], title: str, storage: str, remake: bool) -> str:
    """Store a backfill of exactly these partitions for the daemon; returns its id.

    Dagster's public API takes ranges of keys alone, and refuses those of dynamic partitions. What is imported here is
    not public; the version of Dagster is pinned, and a test has a daemon drain what this stores.
    """
    from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
    from dagster._core.definitions.events import AssetKeyPartitionKey
    from dagster._core.execution.backfill import PartitionBackfill
    from dagster._core.utils import make_new_backfill_id

    from assets.definitions import defs

    graph, now = defs.resolve_asset_graph(), time.time()
    wanted = {AssetKeyPartitionKey(dg.AssetKey(step.stage), partition_of(step, runner.experiment)) for step in steps}
    found = PartitionBackfill.from_asset_graph_subset(
        backfill_id=make_new_backfill_id(),
        backfill_timestamp=now,
        tags=runner.data.tags() | ({STORAGE: storage} if storage else {}) | ({REMAKE: "1"} if remake else {}),
        dynamic_partitions_store=runner.instance,
        asset_graph_subset=AssetGraphSubset.from_asset_partition_set(wanted, graph),
        title=title,
        description=None,
        run_config=None,
    )
    runner.instance.add_backfill(found)
    return found.backfill_id


def where(backfill: str) -> str:
    """The line about a stored backfill: who drains it, and where it is seen."""
    if url := server().partition(",")[0]:
        return f"{url}/runs/b/{backfill}"
    return "it waits for 'worldline ui', whose daemon drains it"


# ---- inside ----


def _pools(steps: Sequence[Step]) -> set[str]:
    """Of the pools the one that a process more would not only slow down: two trainings may not fit on one GPU."""
    return {pool for step in steps if (pool := table.stage(step.stage).pool) == table.GPU}


def _log_folder() -> Path:
    """A new folder for this backfill's logs; of old ones the newest are kept."""
    above = home() / LOGS
    for old in sorted(above.glob("*"))[: -LOGS_KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    folder = above / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    return folder


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return one_line(redact(lines[-1]))[-300:] if lines else ""
