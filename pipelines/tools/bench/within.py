"""What a fault needs inside the process that it strikes: which bytes were synced, and a clock that is turned back.

`FOLDER` goes on the path of a command and all that it starts, whose Python then imports the `sitecustomize` there
first. The environment says what is wanted: SYNCED, a file that is told of every fsync, CLOCK, a file with whose
appearance the wall clock falls back. Nothing is done where neither is set. Dagster's own `datetime.now` and SQLite's
fsyncs are written in C and stay as they are.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SYNCED = "WORLDLINE_FAULT_SYNCED"
CLOCK = "WORLDLINE_FAULT_CLOCK"
BACK = 26 * 3600  # seconds
SITE = "from pipelines.tools.bench.within import begin\n\nbegin()\n"


def environment(folder: Path, **wanted: Path) -> dict[str, str]:
    """What a command's environment needs beside `process.environment()`; writes the module that Python looks for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE)
    return {"PYTHONPATH": str(folder), **{name: str(path) for name, path in wanted.items()}}


def begin() -> None:
    """In every Python process of a struck command, before anything else."""
    if told := os.environ.get(SYNCED):
        os.fsync = _telling(os.fsync, told)  # type: ignore[assignment]
    if turned := os.environ.get(CLOCK):
        _turn_back_with(turned)


def synced(told: Path) -> set[tuple[int, int]]:
    """(inode, modified at, in ns) of every file as it was when it was synced."""
    lines = told.read_text().splitlines() if told.is_file() else []
    return {(int(inode), int(modified)) for inode, modified in map(str.split, lines)}


def _telling(fsync: Callable[[Any], None], told: str) -> Callable[[Any], None]:
    def fsync_and_tell(file: Any) -> None:
        fsync(file)
        found = os.fstat(file if isinstance(file, int) else file.fileno())
        handle = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, f"{found.st_ino} {found.st_mtime_ns}\n".encode())
        os.close(handle)

    return fsync_and_tell


def _turn_back_with(turned: str) -> None:
    real = {name: getattr(time, name) for name in ("time", "time_ns", "gmtime", "localtime", "strftime")}

    def back() -> int:
        return BACK if Path(turned).exists() else 0

    def now() -> float:
        return float(real["time"]()) - back()

    time.time = now
    time.time_ns = lambda: int(real["time_ns"]()) - back() * 10**9
    time.gmtime = lambda seconds=None: real["gmtime"](now() if seconds is None else seconds)
    time.localtime = lambda seconds=None: real["localtime"](now() if seconds is None else seconds)
    time.strftime = lambda shape, moment=None: real["strftime"](shape, moment or time.localtime())
