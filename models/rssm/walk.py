"""Linear layers that a walk through time calls at every step: their weights' gradients are made once, behind the walk.

PyTorch makes the gradient of a weight at every step and adds it to those of the steps before. A walk has few rows and
large weights, so that reading and writing gradients of 34 MB, and of their slices, costs more than the products. Here a
step notes what it read and which gradient came back; behind the walk one product of all steps is the weight's gradient.
Under autocast a weight is rounded once a walk. BENCHMARKS.md, "The Dreamer family", has what this gains.

Shapes: B rows, I numbers that a layer reads, O that it gives.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Layer = Callable[[Tensor], Tensor]
"""(B, I) -> (B, O)"""


@dataclass
class _Noted:
    """What a layer computes with, and what each step read and got back, last step first."""

    weight: Tensor
    bias: Tensor | None
    read: list[Tensor] = field(default_factory=list)
    given: list[Tensor] = field(default_factory=list)


class _Weights(torch.autograd.Function):
    """Behind all steps in the backward pass, since each of them passes a gradient to what this one returns."""

    @staticmethod
    def forward(ctx: Any, noted: _Noted, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.noted, ctx.of = noted, weight.dtype
        return weight.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, Tensor, Tensor | None]:
        noted: _Noted = ctx.noted
        given, read = torch.cat(noted.given), torch.cat(noted.read)
        noted.given.clear()
        noted.read.clear()
        bias = None if noted.bias is None else given.to(ctx.of).sum(0)
        return None, (given.mT @ read).to(ctx.of), bias


class _Step(torch.autograd.Function):
    """One call of a layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, noted: _Noted) -> Tensor:
        ctx.noted, ctx.of = noted, x.dtype
        read = x.to(noted.weight.dtype)
        ctx.save_for_backward(read)
        return F.linear(read, noted.weight, noted.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (given,), noted = gradients, ctx.noted
        wants_x, wants_weights, _ = ctx.needs_input_grad
        if wants_weights:
            noted.read.append(*ctx.saved_tensors)
            noted.given.append(given)
        x = (given @ noted.weight).to(ctx.of) if wants_x else None
        return x, given.new_zeros((), dtype=noted.weight.dtype) if wants_weights else None, None


def walked(weight: Tensor, bias: Tensor | None = None) -> Layer:
    """A layer of weight (O, I) and bias (O,), to be called with x (B, I) at every step of one walk; the same numbers as
    `F.linear`, and the same gradients up to rounding. It is differentiated once.
    """
    kind = weight.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    noted = _Noted(weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype))
    weights = _Weights.apply(noted, weight, bias)

    def layer(x: Tensor) -> Tensor:
        return _Step.apply(x, weights, noted)

    return layer
