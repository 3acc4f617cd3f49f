"""Who is making an artefact: an object of the bucket that its maker renews, so that other machines wait meanwhile.

A lease saves work and decides nothing: should two machines hold one, the condition on the manifest leaves one artefact.
A maker that dies renews no more, and is taken for dead when its object has been the same for `LOST` seconds of the
clock of whoever waits. On one machine locks know better: its own lease, left by a killed process, is taken at once.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import BucketError
from pipelines.bucket.writing import WritableBucket

RENEW = 30.0  # seconds

LOST = 150.0

POLL = 5.0


class Lease:
    """`name` in the bucket; `machine` is the same text for all processes that share one machine's locks."""

    def __init__(self, bucket: WritableBucket, name: str, machine: str) -> None:
        self.bucket, self.name, self.machine = bucket, name, machine
        self._numbers = itertools.count()
        self._held: BucketObject | None = None

    @contextmanager
    def held(self, done: Callable[[], bool], on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold it while the block runs. Waits before, as long as others renew it and `done()` is false.

        `on_wait` is called once when it waits. Raises BucketError; not where it cannot be renewed or given back.
        """
        self._held = self._taken(done, on_wait)
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(ended,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=1.0)  # a renewal that waits for the network must not hold anybody up
            if self._held is not None:
                with suppress(BucketError):
                    self.bucket.remove(self.name, self._held.version)

    def _taken(self, done: Callable[[], bool], on_wait: Callable[[], None]) -> BucketObject | None:
        seen, since, told = "", time.monotonic(), False
        while not done():
            stands = self.bucket.find(self.name)
            if stands is None or self._is_dead(stands, seen, since):
                if (made := self.bucket.replace(self.name, self._words(), stands)) is not None:
                    return made
                continue
            if str(stands.version) != seen:
                seen, since = str(stands.version), time.monotonic()
            if not told:
                on_wait()
                told = True
            time.sleep(POLL)
        return None

    def _is_dead(self, stands: BucketObject, seen: str, since: float) -> bool:
        if str(stands.version) == seen:
            return time.monotonic() - since >= LOST
        with suppress(BucketError):  # replaced or removed meanwhile: it lives
            return self.bucket.read(stands).decode(errors="replace").split(" ")[0] == self.machine
        return False

    def _renew(self, ended: threading.Event) -> None:
        while self._held is not None and not ended.wait(RENEW):
            with suppress(BucketError):  # the network may be back the next time
                self._held = self.bucket.replace(self.name, self._words(), self._held)

    def _words(self) -> bytes:
        """Other ones each time: S3's version is a hash of them."""
        return f"{self.machine} {time.time_ns()} {next(self._numbers)}".encode()
