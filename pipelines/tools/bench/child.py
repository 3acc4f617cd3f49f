"""Runs one function of a benchmark in a fresh process, so that its memory and CPU time are its own.

Arguments and result travel as JSON. The clock starts when the function's module and `imports` are there.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from pipelines import process
from pipelines.errors import WorldlineError

PACKAGE = "pipelines.tools.bench."


@dataclass(frozen=True)
class Cost:
    """What a call took, all threads together. `peak_bytes`: resident memory of the whole process at its highest."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    result: Any


def measure(function: Callable[..., Any], imports: tuple[str, ...] = (), **arguments: Any) -> Cost:
    """Call a function of this package in a child process, with its result; `imports` are what it imports late.

    Raises WorldlineError when it fails.
    """
    called = {"module": function.__module__, "function": function.__name__, "imports": imports}
    request = json.dumps(called | {"arguments": arguments})
    no_control_plane = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}  # as with emulators
    environment = os.environ | process.environment() | no_control_plane
    command = process.command(__name__)
    done = subprocess.run(command, input=request, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise WorldlineError(f"Benchmark step {function.__name__} failed: {last}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def in_turns(rounds: int, *calls: Callable[[], Cost]) -> list[Cost]:
    """Each call `rounds` times, in turns; of each the round with the median wall time (the lower of two)."""
    taken = [[call() for call in calls] for _ in range(rounds)]
    return [sorted(own, key=lambda cost: cost.seconds)[(rounds - 1) // 2] for own in zip(*taken, strict=True)]


def main() -> NoReturn:
    """The child's side."""
    request = json.load(sys.stdin)
    if not request["module"].startswith(PACKAGE):
        raise SystemExit(f"{request['module']} is no benchmark")
    function = getattr(importlib.import_module(request["module"]), request["function"])
    for name in request["imports"]:
        importlib.import_module(name)
    started, cpu_started = time.perf_counter(), time.process_time()
    result = function(**request["arguments"])
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu_started, _peak(), result)
    print(json.dumps(asdict(cost)))
    sys.stdout.flush()
    os._exit(0)  # threads of libraries may take their time


def _peak() -> int:
    """High-water mark of resident memory; ru_maxrss would include the parent's, from before the exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise WorldlineError("This system reports no VmHWM: the benchmark needs Linux")
