"""Where an artefact was made (processor, Python, libraries, git commit) and what that took (time, memory)."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.process import ROOT

LIBRARIES = ("ale-py", "dagster", "h5py", "numpy", "pandas", "torch", "zarr", "worldline")


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of what decides about the bytes, read without importing anything."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


JOB = {"slurm": "SLURM_JOB_ID", "pbs": "PBS_JOBID"}  # scheduler -> the variable in which it names the job

NODES, CPUS = "WORLDLINE_JOB_NODES", "WORLDLINE_JOB_CPUS"  # what a script of `worldline job` asked for, in all


def describe() -> dict[str, str | int]:
    """System, processor count, Python version, which code ran, a cluster's job; no host name, no user name."""
    job = {f"{name}_job_id": os.environ[by] for name, by in JOB.items() if os.environ.get(by)}
    return {
        "system": platform.platform(),
        "cpus": os.cpu_count() or 0,
        "python": platform.python_version(),
        "code": code_digest(),
        **job,
    }


@functools.cache
def code_digest(root: Path = ROOT) -> str:
    """12 hex digits of what this process runs: equal for equal sources, in whatever folder, with or without git.

    Reads every source once: 20 ms.
    """
    digest = hashlib.sha256()
    for layer in ("assets", "models", "pipelines"):
        for path in sorted((root / layer).rglob("*.py")):
            digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def git_commit() -> str:
    """Commit of the checkout this code runs from, with '+' when files differ from it; empty when there is none.

    A repository that does not know this file is somebody else's, though it lies in a folder above.
    """
    here = Path(__file__).resolve().parent
    try:
        known = subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name], cwd=here, capture_output=True, timeout=10
        )
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if known.returncode != 0 or head.returncode != 0:
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def _of_job(found: dict[str, float]) -> dict[str, float]:
    """`node_hours` and `cpu_efficiency_pct` in a cluster's job; nothing elsewhere, or where nobody says its size."""
    nodes, cpus = os.environ.get(NODES, ""), os.environ.get(CPUS, "")
    if not any(os.environ.get(by) for by in JOB.values()) or not (nodes.isdigit() and cpus.isdigit() and int(cpus)):
        return {}
    share = found["cpu_seconds"] / max(found["seconds"], 0.001) / int(cpus)
    return {
        "node_hours": round(found["seconds"] * int(nodes) / 3600, 6),
        "cpu_efficiency_pct": round(100 * share, 2),
    }


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


COST = "cost.json"  # in a scratch folder: what the attempts so far took

KEPT_LATE = 0.05  # of an attempt, or 5 seconds: what a kill loses of its cost


@dataclass
class CostMeter:
    """Start it by making it, read it with `read()`. `earlier` is what other attempts at the same work took.

    In a script of `worldline job` it also tells node-hours, and which share of the cores that were asked for computed,
    by the names that dagster-slurm gives them; of several nodes this process sees the cores of its own alone.
    """

    started: float = field(default_factory=time.monotonic)
    cpu_started: float = field(default_factory=_cpu_seconds)
    earlier: dict[str, float] = field(default_factory=dict)

    def read(self) -> dict[str, float]:
        """Seconds of all attempts together, and how many there were where it is not the first.

        `peak_bytes` is the process's high-water mark so far (ru_maxrss counts KiB on Linux), the highest of all.
        """
        before, peak = self.earlier, 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = {
            "seconds": round(before.get("seconds", 0.0) + time.monotonic() - self.started, 3),
            "cpu_seconds": round(before.get("cpu_seconds", 0.0) + _cpu_seconds() - self.cpu_started, 3),
            "peak_bytes": max(before.get("peak_bytes", 0.0), peak),
        }
        return found | _of_job(found) | ({"attempts": before.get("attempts", 0.0) + 1} if before else {})

    @contextmanager
    def kept(self, folder: Path) -> Iterator[None]:
        """Add what earlier attempts left in `folder`, and leave the sum there all the while and at the end.

        So a killed attempt counts too, but for its last moments. A thread writes, as stages know nothing of it.
        """
        with suppress(FileNotFoundError, ValueError, TypeError):  # what is no JSON is no cost of ours
            self.earlier = dict(json.loads((folder / COST).read_text()))
        ended = threading.Event()

        def keep() -> None:
            aside = folder / f".{COST}"
            with suppress(OSError):  # a full disk ends the stage, not the meter
                aside.write_text(json.dumps({"attempts": 1.0, **self.read()}))
                aside.replace(folder / COST)

        def beat() -> None:
            while not ended.wait(min(max(KEPT_LATE * (time.monotonic() - self.started), 0.1), 5.0)):
                keep()

        thread = threading.Thread(target=beat, name="cost", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            keep()
