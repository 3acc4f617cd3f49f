"""What computes: which processor, in which precision, with how many threads.

Device: CUDA when there is one. Precision: bf16 where it is faster and right. Some processors' bf16 kernels return noise
for some shapes, without a word (seen: torch 2.13 on processors with AMX, convolutions of fewer than 16 channels,
relative error 1.1). So every network that is about to run computes one small batch in bf16 and in float32, as it learns
and as it plays (the two may take different kernels). Where they disagree, the run goes on in float32 and says so; what
was measured stands in the manifest.

Threads are chosen by timing the work itself. A parallel region ends when its last thread does, so on a shared machine a
second thread that is not scheduled makes the first wait: two threads can take ten times as long as one. `Threads` times
a few pieces of each kind of work with one thread and doubles the number while that pays. It asks again when the pace
collapses, and now and then. Results depend on the number in their last bits. A resumed run goes on with the number that
its state carries, and a change is told. `OMP_NUM_THREADS` fixes the number, and with it the bits; nothing is timed
then, nor on a GPU.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from models.api import Agent
from pipelines.errors import UsageError
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
BF16_ERROR = 0.1  # the largest relative one that is right; rounding costs deep networks 0.01 to 0.03, noise 1 and more
_known: dict[str, dict[str, float]] = {}  # once a process, for each config and device


# ---- threads ----


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


# ---- processor and precision ----


@dataclass(frozen=True)
class Device:
    """Where tensors live, and whether matrix products run in bfloat16 (weights and losses stay float32).

    errors: by network, the relative error of bf16 where it was measured (`settle`). threads: how many
    threads compute, chosen while the work runs.
    """

    name: str
    bf16: bool
    errors: Mapping[str, float] = field(default_factory=dict, compare=False)
    threads: Threads = field(default_factory=FixedThreads, compare=False)

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which networks run."""
        return torch.autocast(torch.device(self.name).type, torch.bfloat16, enabled=self.bf16)

    @contextmanager
    def piece(self, kind: str) -> Iterator[None]:
        """The context of one piece of a kind of work: in this precision, timed to choose the number of threads."""
        with self.threads.timed(kind), self.autocast():
            yield

    def metrics(self) -> dict[str, Any]:
        """For the manifest."""
        found = {"bf16_errors": {name: round(error, 4) for name, error in self.errors.items()}} if self.errors else {}
        return {"device": str(self), **found, **self.threads.metrics()}

    def __str__(self) -> str:
        return f"{self.name}, {'bf16' if self.bf16 else 'float32'}"


def pick(precision: str, wanted: str = "auto", leased: bool = False) -> Device:
    """`precision` is auto, float32 or bf16; auto takes bf16 on GPUs and CPUs with instructions for it.

    Whether bf16 is right for the networks at hand, `settle` finds out.

    `wanted` is auto (a GPU where there is one), cpu or cuda. Raises UsageError when cuda is wanted and there is none.
    `leased`: a GPU is this process's own from here on; waits while others hold all.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("This run asks for a GPU (loop.device=cuda) and PyTorch finds none: set loop.device=auto")
    name = "cuda" if torch.cuda.is_available() and wanted != "cpu" else "cpu"
    if leased and name == "cuda":
        from pipelines.training.distributed.gpus import keep_one

        keep_one()
    if precision != "auto":
        return Device(name, precision == "bf16", threads=choose(name))
    if name == "cuda":
        return Device(name, torch.cuda.is_bf16_supported(), threads=choose(name))
    return Device(name, cpu_has_bf16(), threads=choose(name))


def cpu_has_bf16() -> bool:
    """Whether this processor has instructions for bf16."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def settle(agent: Agent, device: Device, asked: str) -> Device:
    """The device in the precision in which this agent's networks are right on it, with what was measured.

    asked: the precision as the config has it. Raises UsageError where it is bf16 and bf16 is wrong.
    """
    if not device.bf16:
        return device
    found = errors(agent, device)
    wrong = {name: error for name, error in found.items() if not error <= BF16_ERROR}
    if not wrong:
        return replace(device, errors=found)
    what = ", ".join(f"the {name} (relative error {error:.2f} against float32)" for name, error in wrong.items())
    if asked == "bf16":
        raise UsageError(f"This machine computes noise in bf16 for {what}: set precision to float32 or auto")
    say(f"This machine computes noise in bf16 for {what}: float32 is used")
    return replace(device, bf16=False, errors=found)


def errors(agent: Agent, device: Device) -> dict[str, float]:
    """By network, the relative error (L2) of bf16 against float32; the largest of what the network returns."""
    key = json.dumps([agent.config.family, agent.config.plain(), device.name], sort_keys=True)
    if key not in _known:
        with _in_eval(agent):
            _known[key] = compare(agent.probe, device)
    return _known[key]


def compare(probe: Callable[[], Mapping[str, tuple[Tensor, ...]]], device: Device) -> dict[str, float]:
    """As `errors`, of what `probe` returns."""
    found: dict[str, float] = {}
    for learning in (True, False):
        with torch.set_grad_enabled(learning):
            exact = probe()
            with replace(device, bf16=True).autocast():
                rounded = probe()
        for name, tensors in exact.items():
            pairs = zip(tensors, rounded[name], strict=True)
            worst = [found.get(name, 0.0), *(_relative(theirs, ours) for theirs, ours in pairs)]
            found[name] = float("inf") if any(error != error for error in worst) else max(worst)
    return found


def _relative(exact: Tensor, rounded: Tensor) -> float:
    exact, rounded = exact.detach().double(), rounded.detach().double()
    scale = float(exact.norm())
    return float((rounded - exact).norm()) / scale if scale else float((rounded != exact).any())


@contextmanager
def _in_eval(agent: Agent) -> Iterator[None]:
    before = {name: network.training for name, network in agent.networks.items()}
    for network in agent.networks.values():
        network.eval()
    try:
        yield
    finally:
        for name, network in agent.networks.items():
            network.train(before[name])


def require_gpu(device: Device, setting: str, otherwise: str) -> None:
    """Raises UsageError where `setting` asks for a GPU and the device is none; `otherwise` is the repair."""
    if not device.name.startswith("cuda"):
        raise UsageError(f"{setting} is for GPUs and this run has none: set {otherwise}")


def compile_for(device: Device, module: nn.Module, wanted: str) -> None:
    """Have calls of `module` compiled from now on: `wanted` is auto (on a GPU), on or off. Weights keep their names.

    Costs about a minute at the first step. Raises UsageError for on without a GPU.
    """
    if wanted == "on":
        require_gpu(device, "loop.compile=on", "loop.compile=auto")
    if device.name.startswith("cuda") and wanted != "off":
        module.compile()
