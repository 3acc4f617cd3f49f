"""Dagster's instance: one persistent home in WORLDLINE_HOME/dagster, set up once before anything opens it.

Several processes that open a fresh SQLite home at the same time break it for good (each runs the migrations), so the
first one sets it up alone, under a lock, and marks it ready; that takes about a second, later openings nothing.
"""

import importlib.resources
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy.exc import DatabaseError, OperationalError

from assets import pools
from pipelines.errors import WorldlineError, may_pass
from pipelines.home import dagster_home
from pipelines.redact import one_line
from pipelines.store.files import locked, writable, write_whole

CONFIG = "dagster.yaml"
READY = ".ready"


def open_instance() -> dg.DagsterInstance:
    """The persistent instance, as a context manager. Raises WorldlineError when its folder cannot be written, for
    settings that Dagster does not understand, and for a PostgreSQL that refuses.

    Sets DAGSTER_HOME and DAGSTER_DISABLE_TELEMETRY for this process and its children.
    """
    folder = dagster_home()
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    try:
        with _retried_in_silence():
            prepare(folder)
            instance = dg.DagsterInstance.get()
    except (WorldlineError, DatabaseError):
        raise
    except Exception as error:  # each part of Dagster has its own
        if may_pass(error):
            raise
        if isinstance(error.__cause__, DatabaseError):
            raise error.__cause__ from None
        raise WorldlineError(
            f"{folder / CONFIG} is no settings of Dagster ({type(error).__name__}: {_detail(error)[:160]}): mend it, "
            "or delete it, and the same command writes it anew"
        ) from error
    hush(instance)
    _end_without_history(instance)
    return instance


def _detail(error: Exception) -> str:
    """What is wrong with settings, in few words."""
    if isinstance(error, ModuleNotFoundError) and str(error.name).startswith(("psycopg", "dagster_postgres")):
        return "PostgreSQL needs pip install 'worldline[postgres]', and postgresql+psycopg2:// in its address"
    told = getattr(error, "errors", None)
    return one_line(told[0].message if told else error)


@contextmanager
def _retried_in_silence() -> Iterator[None]:
    """Without the warnings that Dagster logs, three lines each, whenever PostgreSQL does not answer at once."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


class HistoryLost(BaseException):
    """Dagster's history cannot be written: a full or broken disk. Says why in the database's few words.

    No `Exception`: Dagster and its logger would each print theirs, with the SQL and all its values, and go on.
    """


def lost(error: DatabaseError | HistoryLost) -> str:
    """What to tell where Dagster's history cannot be read or written, in one line with the repair."""
    why = one_line(error.orig if isinstance(error, DatabaseError) else error)
    if isinstance(error, DatabaseError) and type(error.orig).__module__.startswith("psycopg"):
        return (
            f"PostgreSQL, where {dagster_home() / CONFIG} keeps Dagster's history, refuses ({why}): see that it runs, "
            "that its address and password are right, and run the same command again; finished artefacts are untouched"
        )
    if isinstance(error, OperationalError | HistoryLost):  # SQLite's word for a full or broken disk
        return (
            f"Dagster's history in {dagster_home()} cannot be used ({why}): free some space or set WORLDLINE_HOME to "
            "another disk; finished artefacts are untouched, run the same command again"
        )
    return (
        f"Dagster's history in {dagster_home()} is damaged ({why}): move that folder away, then worldline doctor "
        "--rebuild tells a new one what stands in the store; artefacts and their lineage are kept elsewhere"
    )


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
            write_whole(folder / CONFIG, template().encode(), folder / f"{CONFIG}.partial")
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
        pools.change(instance, pools.POOLS)
