"""How fast a bucket gives bytes: counted over the time in which at least one read was under way."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """Bytes and seconds of one bucket in this process, all threads together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reads = self._bytes = 0
        self._started = self._seconds = 0.0

    @contextmanager
    def reading(self, size: int) -> Iterator[None]:
        """Count `size` bytes if the block ends well, and its time in any case."""
        with self._lock:
            if not self._reads:
                self._started = time.monotonic()
            self._reads += 1
        done = 0
        try:
            yield
            done = size
        finally:
            with self._lock:
                self._reads -= 1
                self._bytes += done
                if not self._reads:
                    self._seconds += time.monotonic() - self._started

    def rate(self) -> float | None:
        """Bytes per second so far; None before the first read has ended."""
        with self._lock:
            return self._bytes / self._seconds if self._seconds > 0 and self._bytes else None


_METERS: dict[str, Meter] = {}
_LOCK = threading.Lock()


def meter(root: str) -> Meter:
    """The one meter of a bucket's root URL."""
    with _LOCK:
        return _METERS.setdefault(root, Meter())
