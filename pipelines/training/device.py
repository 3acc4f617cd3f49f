"""Which processor trains, in which precision: CUDA when there is one, bf16 where it is faster than float32."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pipelines.errors import UsageError
from pipelines.training.threads import FixedThreads, Threads, choose


@dataclass(frozen=True)
class Device:
    """Where tensors live, and whether matrix products run in bfloat16 (weights and losses stay float32).

    errors: by network, the relative error of bf16 where it was measured (`precision.settle`). threads: how many
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

    Whether bf16 is right for the networks at hand, `precision.settle` finds out.

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
