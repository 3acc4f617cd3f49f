"""How many threads compute, chosen by timing the work itself.

A parallel region ends when its last thread does, so on a shared machine a second thread that is not scheduled makes
the first wait: two threads can take ten times as long as one. `Threads` times a few pieces of each kind of work with
one thread and doubles the number while that pays. It asks again when the pace collapses, and now and then.

Results depend on the number in their last bits. A resumed run goes on with the number that its state carries, and a
change is told. `OMP_NUM_THREADS` fixes the number, and with it the bits; nothing is timed then, nor on a GPU.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from pipelines.progress import say

PIECES = 5  # timed with each number, after one that warms up
GAIN = 0.95  # of the time with fewer threads: what more threads may take
HOPELESS = 3.0  # times as long as with fewer: no further piece is tried
COLLAPSE = 1.5  # times as long as when the number was chosen, in the median of
WINDOW = 8  # pieces
AGAIN = 60.0  # seconds until a choice is looked at again; doubles with each that is confirmed
LONGEST = 16 * AGAIN

Choices = Mapping[str, tuple[int, float]]
"""by kind of work, the number of threads and the seconds a piece took with it"""


class Threads:
    """Sets the number of threads of this process before each piece of work, see above.

    most: the largest number tried; that of the processors this process may use, unless given.
    """

    def __init__(self, most: int = 0, clock: Callable[[], float] = time.perf_counter) -> None:
        most = most or processors()
        self._counts = tuple(dict.fromkeys([*(1 << n for n in range(most.bit_length())), most]))
        self._clock, self._kinds = clock, dict[str, _Kind]()

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Around one piece of work; pieces of one kind take about the same time."""
        work = self._kinds.setdefault(kind, _Kind(kind, self._counts))
        if torch.get_num_threads() != work.threads:
            torch.set_num_threads(work.threads)
        started = self._clock()
        yield
        ended = self._clock()
        work.took(ended - started, ended)

    def choices(self) -> Choices:
        """What is chosen by now, for a resumable state."""
        return {kind: work.best for kind, work in self._kinds.items() if work.best and not work.trying}

    def resume(self, choices: Choices) -> None:
        """Go on with what another process chose; what this machine cannot do is chosen anew, and told."""
        for kind, (threads, seconds) in choices.items():
            if threads > self._counts[-1]:
                say(f"This run computed '{kind}' with {threads} threads, here are {self._counts[-1]}: {_ROUNDING}")
                continue
            known = self._kinds[kind] = _Kind(kind, self._counts)
            known.best, known.threads = (threads, seconds), threads
            known.settle(self._clock())

    def metrics(self) -> dict[str, Any]:
        """For the manifest: by kind, the numbers that were chosen in turn."""
        return {"threads": {kind: list(work.used) for kind, work in self._kinds.items() if work.used}}


class FixedThreads(Threads):
    """The number is given: nothing is timed, nothing is set."""

    def resume(self, choices: Choices) -> None:
        """What was chosen then is not asked; a change is told."""
        for kind, (threads, _) in choices.items():
            if threads != (here := torch.get_num_threads()):
                say(f"This run computed '{kind}' with {threads} threads, here are {here}: {_ROUNDING}")

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        yield

    def metrics(self) -> dict[str, Any]:
        return {"threads": torch.get_num_threads()}


def choose(device: str) -> Threads:
    """For a device by its name: a GPU needs no threads, and a number that the environment gives is obeyed."""
    given = os.environ.get("OMP_NUM_THREADS", "").strip()
    return FixedThreads() if given or device != "cpu" else Threads()


_ROUNDING = "results differ from here on in their last bits (OMP_NUM_THREADS fixes the number)"


@dataclass
class _Kind:
    """One kind of work: the number in use, the best so far with its seconds, and the times since the last change."""

    name: str
    counts: tuple[int, ...]
    threads: int = 1
    best: tuple[int, float] | None = None
    used: list[int] = field(default_factory=list)  # the numbers settled on, in turn
    _times: list[float] = field(default_factory=list)
    trying: bool = True
    _settled: float = 0.0
    _patience: float = AGAIN

    def took(self, seconds: float, now: float) -> None:
        """A piece is done, with `threads`."""
        self._times.append(seconds)
        if self.trying:
            self._try(seconds, now)
        elif len(self.counts) > 1:
            self._watch(now)

    def _try(self, seconds: float, now: float) -> None:
        if self.best and seconds > HOPELESS * self.best[1]:
            self.settle(now)
        elif len(self._times) > PIECES:
            pace = median(self._times[1:])
            if self.best and pace > GAIN * self.best[1]:
                self.settle(now)
                return
            self.best = (self.threads, pace)
            more = [count for count in self.counts if count > self.threads]
            if more:
                self.threads, self._times = more[0], []
            else:
                self.settle(now)

    def _watch(self, now: float) -> None:
        assert self.best is not None, "a settled kind has a best number"
        del self._times[:-WINDOW]
        collapsed = len(self._times) == WINDOW and median(self._times) > COLLAPSE * self.best[1]
        if collapsed or now - self._settled > self._patience:
            self.threads, self.best, self._times, self.trying = 1, None, [], True

    def settle(self, now: float) -> None:
        """Go on with the best number."""
        assert self.best is not None, "the first number tried is the best so far"
        self.threads, self._times, self.trying, self._settled = self.best[0], [], False, now
        if not self.used or self.used[-1] != self.threads:
            if self.used:
                say(f"'{self.name}' goes on with {self.threads} threads in place of {self.used[-1]}: {_ROUNDING}")
            self.used.append(self.threads)
            self._patience = AGAIN
        else:
            self._patience = min(2 * self._patience, LONGEST)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
