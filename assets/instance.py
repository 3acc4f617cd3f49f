"""Dagster's instance: one persistent home in WORLDLINE_HOME/dagster, set up once before anything opens it.

Several processes that open a fresh SQLite home at the same time break it for good (each runs the migrations), so the
first one sets it up alone, under a lock, and marks it ready; that takes about a second, later openings nothing.
"""

import importlib.resources
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy.exc import DatabaseError, OperationalError

from pipelines.errors import WorldlineError, may_pass
from pipelines.home import dagster_home
from pipelines.redact import one_line
from pipelines.store.files import locked, writable

CONFIG = "dagster.yaml"
READY = ".ready"


def open_instance() -> dg.DagsterInstance:
    """The persistent instance, as a context manager. Raises WorldlineError when its folder cannot be written, and
    for settings that Dagster does not understand.

    Sets DAGSTER_HOME and DAGSTER_DISABLE_TELEMETRY for this process and its children.
    """
    folder = dagster_home()
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    try:
        prepare(folder)
        instance = dg.DagsterInstance.get()
    except (WorldlineError, DatabaseError):
        raise
    except Exception as error:  # each part of Dagster has its own
        if may_pass(error):
            raise
        raise WorldlineError(
            f"{folder / CONFIG} is no settings of Dagster ({type(error).__name__}: {one_line(error)[:160]}): mend it, "
            "or delete it, and the same command writes it anew"
        ) from error
    hush(instance)
    _end_without_history(instance)
    return instance


class HistoryLost(BaseException):
    """Dagster's history cannot be written: a full or broken disk. Says why in the database's few words.

    No `Exception`: Dagster and its logger would each print theirs, with the SQL and all its values, and go on.
    """


def _end_without_history(instance: dg.DagsterInstance) -> None:
    """Have the first event that cannot be written end the command."""
    handle = instance.handle_new_event

    def handled(*event: Any, **how: Any) -> None:
        try:
            handle(*event, **how)
        except OperationalError as error:
            if threading.current_thread() is not threading.main_thread():
                raise
            raise HistoryLost(str(error.orig)) from None

    instance.handle_new_event = handled  # type: ignore[method-assign]


def hush(instance: dg.DagsterInstance) -> None:
    """Keep Ctrl-C from the helpers that copy a run's output to the terminal: each would print a traceback there."""
    manager: Any = instance.compute_log_manager
    capture = manager.capture_logs

    @contextmanager
    def hushed(log_key: Sequence[str]) -> Iterator[Any]:
        with ExitStack() as stack:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # children take the mask over
            try:
                captured = stack.enter_context(capture(log_key))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield captured

    manager.capture_logs = hushed


def prepare(folder: Path) -> None:
    """Make `folder` a Dagster home, once. A `dagster.yaml` that is there already is the user's, and stays."""
    if _is_ready(folder):
        return
    with writable(folder), locked(folder / ".lock"):
        if _is_ready(folder):
            return
        if not (folder / CONFIG).exists():
            aside = folder / f"{CONFIG}.partial"
            aside.write_text(template(), encoding="utf-8")
            aside.replace(folder / CONFIG)
        _migrate(folder)
        (folder / READY).touch()


def _is_ready(folder: Path) -> bool:
    return (folder / READY).exists() and (folder / CONFIG).exists()


def template() -> str:
    """The `dagster.yaml` that a new home gets."""
    return importlib.resources.files("storage_configs").joinpath("instance", CONFIG).read_text(encoding="utf-8")


def _migrate(folder: Path) -> None:
    """Have every database of the home made, by asking each a question."""
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        instance.get_runs_count()
        instance.all_asset_keys()
        instance.get_dynamic_partitions("experiment")
        instance.all_instigator_state()
        instance.event_log_storage.get_pool_limits()
