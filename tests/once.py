"""What is costly to make, and is the same for every worker of pytest-xdist, is made by the first that asks."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` that `build` has filled, for all workers of this session. Copy it: others read it too.

    The others wait meanwhile. A build that fails or dies leaves no mark, so the next that asks builds in an empty
    folder of its own.
    """
    base = factory.getbasetemp()
    # A worker's own base is a folder in the session's; without workers the session's is the only one.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    mark = shared / f"{name}.made"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists():
            folder = factory.mktemp(name)
            build(folder)
            mark.write_text(str(folder))
        return Path(mark.read_text())
