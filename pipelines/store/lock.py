"""Locks between processes: the kernel lets go when the holder dies, kill -9 included."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _nothing() -> None:
    pass


@contextmanager
def locked(path: Path, shared: bool = False, on_wait: Callable[[], None] = _nothing) -> Iterator[None]:
    """Hold the lock file `path`, waiting for as long as it takes; `on_wait` is called once when that is not at once.

    Any number of holders may share it (`shared`), or one holds it alone.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, kind)
        yield


@contextmanager
def locked_now(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` alone if nobody else holds it; yields whether that worked, without waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
