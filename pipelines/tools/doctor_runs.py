"""What `worldline doctor` says of what runs here: whose code, whose UI and daemons, and runs that nobody ends."""

import fcntl
import importlib
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.home import dagster_home, server
from pipelines.process import ROOT
from pipelines.store.machine import code_digest, git_commit
from pipelines.tools.doctor import Finding

SILENT = 300  # seconds after which a run without a lock is given up; the graph's own patience is shorter

UNFINISHED = ("NOT_STARTED", "STARTING", "STARTED", "CANCELING")

REMAKE = "make setup, which makes a .venv of another folder anew"


def code(script: Path | None = None, here: Path | None = None) -> Finding:
    """Which code all commands run, and whether it is that of this folder and of this `.venv`."""
    commit = git_commit()
    known = f", commit {commit[:10]}{'+' * commit.endswith('+')}" if commit else ""
    value = f"{ROOT} (sources {code_digest()}{known})"
    script, here = script or Path(sys.argv[0]), here or Path.cwd()
    nearest = next((folder for folder in (here, *here.parents) if _holds_us(folder)), None)
    if nearest is not None and nearest.resolve() != ROOT:
        return Finding("code", False, f"{value}, and not that of {nearest}", f"in {nearest}: {REMAKE}")
    environment = script.absolute().parent.parent
    if (environment / "pyvenv.cfg").is_file() and environment.resolve() != Path(sys.prefix).resolve():
        return Finding("code", False, f"{value}, by the Python of {sys.prefix}", f"in {environment.parent}: {REMAKE}")
    return Finding("code", True, value)


def _holds_us(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("pyproject.toml", "pipelines/cli.py", "assets/launch.py"))


def ui() -> Finding:
    """Where this home's UI is; more than one daemon on a home starts every run twice."""
    psutil = importlib.import_module("psutil")
    daemons = []
    for each in psutil.process_iter():
        try:
            if "dagster._daemon" in each.cmdline() and each.environ().get("DAGSTER_HOME") == str(dagster_home()):
                daemons.append(each.pid)
        except psutil.Error:  # another user's, or gone meanwhile
            continue
    value = server() or "not running"
    if len(daemons) > 1:
        value = f"{value}; {len(daemons)} daemons serve this home, processes {', '.join(map(str, daemons))}"
        return Finding("ui", False, value, f"end all but one, for example: kill {' '.join(map(str, daemons[1:]))}")
    return Finding("ui", True, value)


def runs(folder: Path | None = None) -> Finding:
    """Runs that are said to go on though their process is gone: they keep their places in the queue."""
    folder = folder or dagster_home()
    database = folder / "history" / "runs.db"
    if not database.is_file():
        return Finding("runs", True, "none yet")
    since = datetime.now(UTC) - timedelta(seconds=SILENT)
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as history:
        marks = ", ".join("?" * len(UNFINISHED))
        asked = f"select run_id, update_timestamp < ? from runs where status in ({marks})"
        try:
            found = history.execute(asked, (since.strftime("%Y-%m-%d %H:%M:%S"), *UNFINISHED)).fetchall()
        except sqlite3.DatabaseError as error:  # what is wrong with it is told of Dagster's home
            return Finding("runs", True, f"not known ({error})")
    dead = [run for run, silent in found if _dead(folder / "processes" / f"{run}.lock", bool(silent))]
    value = f"{len(found) - len(dead)} under way"
    if dead:
        value += f", {len(dead)} whose process is gone: {', '.join(run[:8] for run in dead[:5])}"
    return Finding("runs", not dead, value, "worldline doctor --init fails them; so does worldline ui" if dead else "")


def _dead(lock: Path, silent: bool) -> bool:
    """As the graph judges: its process is gone when its lock is free, or when there is none and it was long silent."""
    if not lock.is_file():
        return silent
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
