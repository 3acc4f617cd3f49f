"""The switch of all shortcuts in this room: how a CPU computes what the blocks say, sooner than PyTorch's layers do.

A shortcut gives the plain way's numbers up to rounding; dropout draws other random numbers of the same distribution.
Each was measured to be quicker on both kinds of processor (AMD, and Intel with AMX): BENCHMARKS.md, "CPU shortcuts",
has the figures and the command. `WORLDLINE_CPU_SHORTCUTS=0` in the environment, or `with off():`, computes plainly.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

VARIABLE = "WORLDLINE_CPU_SHORTCUTS"


def wanted(value: str | None) -> bool:
    """What the environment variable says; shortcuts are on where it is not set. Raises ValueError but for 0 and 1."""
    if value not in (None, "", "0", "1"):
        raise ValueError(f"{VARIABLE} is '{value}': set it to 0 for the plain way or to 1 for shortcuts")
    return value != "0"


_on = wanted(os.environ.get(VARIABLE))


def taken(x: Tensor) -> bool:
    """Whether shortcuts are on for `x`: it is on a CPU, and no compiler reads along, which has kernels of its own."""
    return not torch.compiler.is_compiling() and _on and x.device.type == "cpu"


@contextmanager
def off() -> Iterator[None]:
    """The plain way in all of this process, until the context is left."""
    global _on
    before, _on = _on, False
    try:
        yield
    finally:
        _on = before
