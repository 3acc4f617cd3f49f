"""Which processor trains, in which precision: CUDA when there is one, bf16 where it is faster than float32."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """Where tensors live, and whether matrix products run in bfloat16 (weights and losses stay float32)."""

    name: str
    bf16: bool

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which networks run."""
        return torch.autocast(torch.device(self.name).type, torch.bfloat16, enabled=self.bf16)

    def __str__(self) -> str:
        return f"{self.name}, {'bf16' if self.bf16 else 'float32'}"


def pick(precision: str) -> Device:
    """`precision` is auto, float32 or bf16; auto takes bf16 on GPUs and CPUs with instructions for it."""
    name = "cuda" if torch.cuda.is_available() else "cpu"
    if precision != "auto":
        return Device(name, precision == "bf16")
    if name == "cuda":
        return Device(name, torch.cuda.is_bf16_supported())
    found = torch.cpu.get_capabilities()
    return Device(name, bool(found.get("amx_bf16") or found.get("avx512_bf16")))
