"""What Dagster itself costs around our work, and what a fault left in it: where `worldline bench` imports it.

Each runs in a process of its own and prints what it found. Run: `python -m assets.bench load`, or
`python -m assets.bench partition 20` with WORLDLINE_HOME set to an empty folder.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import psutil


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

    with open_instance() as instance, redirect_stdout(sys.stderr):
        runner = Runner.of_recipe(instance, "mini", [])
        step = runner.plan.steps()[0]
        if runner.run([step]) != 0:
            raise SystemExit(f"{step} could not be made: see its error above")
        started = time.perf_counter()
        for _ in range(int(count)):
            runner.run([step])
        return (time.perf_counter() - started) / int(count)


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


ASKED: dict[str, Callable[..., float | dict[str, Any]]] = {"load": load, "partition": partition, "left": left}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the first argument names; prints what it found, as JSON, alone on the last line."""
    name, *rest = sys.argv[1:] if arguments is None else arguments
    print(json.dumps(ASKED[name](*rest)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
