"""Where an artefact was made: processor, Python, library versions, git commit of the code."""

import functools
import importlib.metadata
import os
import platform
import subprocess
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
