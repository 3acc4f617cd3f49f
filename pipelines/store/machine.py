"""Where an artefact was made (processor, Python, libraries, git commit) and what that took (time, memory)."""

import functools
import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

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


def describe() -> dict[str, str | int]:
    """System, processor count and Python version; no host name, no user name."""
    return {"system": platform.platform(), "cpus": os.cpu_count() or 0, "python": platform.python_version()}


@functools.cache
def git_commit() -> str:
    """Commit of the checkout this code runs from, with '+' when files differ from it; empty when there is none."""
    here = Path(__file__).resolve().parent
    try:
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
    if head.returncode != 0:
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass
class CostMeter:
    """Start it by making it, read it with `read()`."""

    started: float = field(default_factory=time.monotonic)
    cpu_started: float = field(default_factory=_cpu_seconds)

    def read(self) -> dict[str, float]:
        """`peak_bytes` is the process's high-water mark so far (ru_maxrss counts KiB on Linux)."""
        return {
            "seconds": round(time.monotonic() - self.started, 3),
            "cpu_seconds": round(_cpu_seconds() - self.cpu_started, 3),
            "peak_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
        }
