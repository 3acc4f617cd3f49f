"""What Dagster itself costs around our work; the half of `worldline bench graph` that imports it.

Each measurement runs in a process of its own and prints its seconds. Run: `python -m assets.bench load`, or
`python -m assets.bench partition 20` with WORLDLINE_HOME set to an empty folder.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout

import psutil


def load() -> float:
    """Seconds from the start of this process until all assets, jobs, schedules and sensors are resolved."""
    from assets.definitions import defs

    repository = defs.get_repository_def()
    assert repository.asset_graph.get_all_asset_keys(), "a graph without assets is no graph"
    repository.get_all_jobs()
    return time.time() - psutil.Process().create_time()


def partition(count: int = 20) -> float:
    """Seconds of a partition whose artefact stands: what Dagster adds to a stage that runs in this process."""
    from assets.instance import open_instance
    from assets.runner import Runner

    with open_instance() as instance, redirect_stdout(sys.stderr):
        runner = Runner.of_recipe(instance, "mini", [])
        step = runner.plan.steps()[0]
        if runner.run([step]) != 0:
            raise SystemExit(f"{step} could not be made: see its error above")
        started = time.perf_counter()
        for _ in range(count):
            runner.run([step])
        return (time.perf_counter() - started) / count


MEASURED: dict[str, Callable[..., float]] = {"load": load, "partition": partition}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the first argument names; prints the seconds alone on the last line."""
    name, *numbers = sys.argv[1:] if arguments is None else arguments
    print(MEASURED[name](*map(int, numbers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
