"""Which processor computes, in which precision: CUDA when there is one, bf16 where it is faster and right.

Some processors' bf16 kernels return noise for some shapes, without a word (seen: torch 2.13 on processors with AMX,
convolutions of fewer than 16 channels, relative error 1.1). So every network that is about to run computes one small
batch in bf16 and in float32, as it learns and as it plays (the two may take different kernels). Where they disagree,
the run goes on in float32 and says so; what was measured stands in the manifest.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from models.api import Agent
from pipelines.errors import UsageError
from pipelines.progress import say
from pipelines.training.threads import FixedThreads, Threads, choose

BF16_ERROR = (
    0.1  # relative, the largest that is right; rounding to bf16 costs deep networks 0.01 to 0.03, noise 1 and more
)
_known: dict[str, dict[str, float]] = {}  # once a process, for each config and device


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


def pick(precision: str, wanted: str = "auto") -> Device:
    """`precision` is auto, float32 or bf16; auto takes bf16 on GPUs and CPUs with instructions for it.

    Whether bf16 is right for the networks at hand, `settle` finds out.

    `wanted` is auto (a GPU where there is one), cpu or cuda. Raises UsageError when cuda is wanted and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("This run asks for a GPU (loop.device=cuda) and PyTorch finds none: set loop.device=auto")
    name = "cuda" if torch.cuda.is_available() and wanted != "cpu" else "cpu"
    if precision != "auto":
        return Device(name, precision == "bf16", threads=choose(name))
    if name == "cuda":
        return Device(name, torch.cuda.is_bf16_supported(), threads=choose(name))
    found = torch.cpu.get_capabilities()
    return Device(name, bool(found.get("amx_bf16") or found.get("avx512_bf16")), threads=choose(name))


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
