"""What Dagster itself costs around our work, and what a fault left in it: where `worldline bench` imports it.

Each runs in a process of its own and prints what it found. Run: `python -m assets.bench load`, or
`python -m assets.bench partition 20` and `python -m assets.bench drain 300` with WORLDLINE_HOME set to an empty folder.
"""

import io
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import psutil

from pipelines import process
from pipelines.errors import WorldlineError

if TYPE_CHECKING:
    import dagster as dg

    from assets.runner import Runner
    from pipelines.graph.plan import Step

IN_TURN = 30  # of the drained partitions, as many are made again in one process, for comparison
PATIENCE = 30.0  # seconds that a daemon and its code server get to end in order


def load() -> float:
    """Seconds from the start of this process until all assets, jobs, schedules and sensors are resolved."""
    from assets.definitions import defs

    repository = defs.get_repository_def()
    assert repository.asset_graph.get_all_asset_keys(), "a graph without assets is no graph"
    repository.get_all_jobs()
    return time.time() - psutil.Process().create_time()


def partition(count: str = "20") -> float:
    """Seconds of a partition whose artefact stands: what Dagster adds to a stage that runs in this process."""
    from assets.instance import open_instance
    from assets.runner import Runner
    from assets.step import DataConfig

    with open_instance() as instance, redirect_stdout(sys.stderr):
        runner = Runner.of_data(instance, DataConfig(recipe="mini"))
        step = runner.plan.steps()[0]
        if runner.run([step]) != 0:
            raise SystemExit(f"{step} could not be made: see its error above")
        started = time.perf_counter()
        for _ in range(int(count)):
            runner.run([step])
        return (time.perf_counter() - started) / int(count)


def drain(count: str = "300") -> dict[str, float]:
    """A backfill of replays that stand, stored for a daemon of its own, which drains it under the pools.

    `wall` is from the start of the daemon to the end of the last run, in seconds; of a run: `start` from its launch to
    its first event, `run` from there to its end, `empty` how long its place stayed so before, `cpu` of all processes,
    daemon and code server included. `beside` runs were there at once. `in_turn` is what a partition takes in one
    process for all, `bare` without Dagster. Raises WorldlineError where a run failed.
    """
    from assets.backfill import enqueue
    from assets.instance import open_instance
    from assets.resources import Installation
    from pipelines.graph.make import make

    with open_instance() as instance, redirect_stdout(sys.stderr):
        runner, steps = _standing(instance, int(count))
        backfill = enqueue(runner, steps, f"bench of {count}", "", False)
        began = time.time()
        with _daemon() as daemon:
            while (found := instance.get_backfill(backfill)) is None or found.status.value == "REQUESTED":
                if daemon.poll() is not None:
                    raise WorldlineError(f"the daemon ended with code {daemon.returncode} before the backfill did")
                time.sleep(1.0)
            cpu = _cpu(psutil.Process(daemon.pid))
        spans = [_span(instance, run.run_id) for run in _runs(instance, backfill, len(steps))]
        started = time.perf_counter()
        for outcome in runner.outcomes(steps[:IN_TURN]):
            assert not outcome.code, outcome.text
        in_turn = (time.perf_counter() - started) / len(steps[:IN_TURN])
        started, store = time.perf_counter(), Installation().store()
        for step in steps:
            make(runner.plan, step, store)
        bare = (time.perf_counter() - started) / len(steps)
    launches, ends = sorted(launched for launched, _, _ in spans), sorted(end for _, _, end in spans)
    beside = max(number - sum(end <= at for end in ends) for number, at in enumerate(launches, 1))
    empty = [launched - end for launched, end in zip(launches[beside:], ends, strict=False)]
    return {
        "wall": ends[-1] - began,
        "first": launches[0] - began,
        "start": statistics.median(first - launched for launched, first, _ in spans),
        "run": statistics.median(end - first for _, first, end in spans),
        "empty": statistics.median(empty) if empty else 0.0,
        "cpu": cpu / len(steps),
        "beside": beside,
        "in_turn": in_turn,
        "bare": bare,
    }


def _standing(instance: "dg.DagsterInstance", count: int) -> "tuple[Runner, list[Step]]":
    """Replays of all games and agents, made by nobody, with what each is of; a step each, `count` of them."""
    from assets.resources import Installation
    from assets.runner import Runner
    from assets.step import DataConfig
    from pipelines.environments.atari.games import GAMES
    from pipelines.store.artefact import Draft

    agents = range(1, -(-count // len(GAMES)) + 1)
    named = [f"games={','.join(GAMES)}", f"agents={','.join(map(str, agents))}", f"collect.agents={len(agents)}"]
    runner, store = Runner.of_data(instance, DataConfig(recipe="mini", overrides=named)), Installation().store()
    for step in (steps := runner.plan.steps("replay")):
        config = runner.plan.config(step)

        def build(draft: Draft, checks: Sequence[str] = config.CHECKS) -> None:
            draft.path("data.bin").write_bytes(draft.spec.key.encode())
            for name in checks:
                draft.check(name, True, "made for a benchmark")

        store.produce(config.spec(), build)
    return runner, [step for step in steps if step.stage == "replay"][:count]


@contextmanager
def _daemon() -> "Iterator[subprocess.Popen[bytes]]":
    """Dagster's daemon over this home and nothing else; told to end at the end, with all that it started."""
    from assets.server import workspace

    line = process.command("dagster._daemon.cli", "run", "-w", str(workspace()), "--log-level", "warning")
    started = subprocess.Popen(line, env=os.environ | process.environment(), stdout=sys.stderr)
    try:
        yield started
    finally:
        family = psutil.Process(started.pid).children(recursive=True) if started.poll() is None else []
        started.send_signal(signal.SIGINT)
        for each in psutil.wait_procs([psutil.Process(started.pid), *family], timeout=PATIENCE)[1]:
            each.kill()
        started.wait()


def _cpu(parent: psutil.Process) -> float:
    """Seconds of CPU of a process and all that it started, ended ones included."""
    return sum(sum(each.cpu_times()[:4]) for each in [parent, *parent.children(recursive=True)])


def _runs(instance: "dg.DagsterInstance", backfill: str, count: int) -> "Sequence[dg.DagsterRun]":
    import dagster as dg

    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    good = sum(run.is_success for run in runs)
    if (len(runs), good) != (count, count):
        raise WorldlineError(f"Of {count} partitions the daemon ran {len(runs)}, of which {good} ended well")
    return runs


def _span(instance: "dg.DagsterInstance", run: str) -> tuple[float, float, float]:
    """When a run was launched, had its first event, and ended."""
    import dagster as dg

    kinds = (dg.DagsterEventType.RUN_STARTING, dg.DagsterEventType.RUN_START, dg.DagsterEventType.RUN_SUCCESS)
    found = {event.dagster_event_type: event.timestamp for event in instance.all_logs(run, set(kinds))}
    launched, first, end = (found[kind] for kind in kinds)
    return launched, first, end


def left(experiment: str, stage: str) -> dict[str, Any]:
    """The runs that are unfinished, the places of pools that are taken, and what making the stage once more says."""
    import dagster as dg

    from assets.instance import open_instance
    from assets.launch import choose
    from assets.orphans import UNFINISHED
    from assets.runner import Runner

    with open_instance() as instance, redirect_stdout(io.StringIO()) as said:
        waiting = [*UNFINISHED, dg.DagsterRunStatus.QUEUED]
        unfinished = [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=waiting))]
        storage = instance.event_log_storage
        infos = [storage.get_concurrency_info(key) for key in storage.get_concurrency_keys()]
        runner = Runner.of_experiment(instance, experiment)
        code = runner.run(choose(runner.plan, stage, stage))
    slots = sum(info.active_slot_count for info in infos)
    return {"unfinished": unfinished, "slots": slots, "code": code, "again": said.getvalue().strip()}


ASKED: dict[str, Callable[..., float | dict[str, Any]]] = {
    "load": load,
    "partition": partition,
    "drain": drain,
    "left": left,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the first argument names; prints what it found, as JSON, alone on the last line."""
    name, *rest = sys.argv[1:] if arguments is None else arguments
    print(json.dumps(ASKED[name](*rest)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
