"""Beside `worldline ui`: ends every process that it started, once it is gone. Imports no Dagster, takes 10 MB.

Started by `assets.server` alone. What belongs together carries the same mark in its environment, whoever its parent is
by now: web server, daemon, code servers, runs, and the training that these started.
"""

import os
import signal
import sys
import time
from contextlib import suppress

import psutil

MARK = "WORLDLINE_UI"

WATCH_SECONDS = 0.5

PATIENCE = 20.0  # seconds that runs get to say that they were interrupted


def main() -> int:
    """Waits for the parent's end; `python -m assets.guard PARENT MARK`."""
    parent, mark = sys.argv[1:]
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    while os.getppid() == int(parent):
        time.sleep(WATCH_SECONDS)
    end(mark)
    return 0


def end(mark: str) -> None:
    """End all marked processes: in peace, then by force."""
    found = family(mark)
    for each in found:
        _tell(each, signal.SIGTERM)
    until = time.monotonic() + PATIENCE
    while any(_mark(each) for each in found) and time.monotonic() < until:
        time.sleep(WATCH_SECONDS / 5)
    while left := family(mark):  # what was started meanwhile too
        for each in left:
            _tell(each, signal.SIGKILL)
        time.sleep(WATCH_SECONDS / 5)


def family(mark: str) -> list[psutil.Process]:
    """The living processes with this mark, but for this one."""
    return [each for each in psutil.process_iter() if each.pid != os.getpid() and _mark(each) == mark]


def _mark(each: psutil.Process) -> str | None:
    try:
        return None if each.status() == psutil.STATUS_ZOMBIE else each.environ().get(MARK)
    except psutil.Error:  # another user's, or gone meanwhile
        return None


def _tell(each: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.Error):
        each.send_signal(number)


if __name__ == "__main__":
    sys.exit(main())
