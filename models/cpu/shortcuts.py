"""The switch of all shortcuts in this room: how a CPU computes what the blocks say, sooner than PyTorch's layers do.

A shortcut gives the plain way's numbers up to rounding; dropout draws other random numbers of the same distribution.
What was measured to be slower, on AMD or on Intel with AMX, has no place here: BENCHMARKS.md, "CPU shortcuts", has the
figures and the command. `WORLDLINE_CPU_SHORTCUTS=0` in the environment, or `with off():`, computes plainly.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_on = os.environ.get("WORLDLINE_CPU_SHORTCUTS") != "0"


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
