"""Linear layers through oneDNN where PyTorch would take a slower library: float32 on a CPU.

PyTorch multiplies float32 matrices with MKL, which on processors of other makers leaves half of the machine unused.
Measured on 2 threads of an AMD EPYC (AVX-512), 2,368 rows, 512 -> 2,048, milliseconds of CPU time: forward 27 against
57, gradient of the input 22 against 55, of the weight 30 against 48. Results differ by rounding only.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ENOUGH_ROWS = 32  # below it a product is as long as its weight takes to read, and nothing is gained


class Linear(nn.Linear):
    """`nn.Linear` with the faster product; everywhere else, and under autocast, exactly `nn.Linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.linear`: (..., I), (O, I), (O,) -> (..., O)."""
    if not _faster(x, weight):
        return F.linear(x, weight, bias)
    rows = x.flatten(0, -2).contiguous()  # of rows far apart oneDNN multiplies the transpose 300 times slower
    return _OneDNN.apply(rows, weight, bias).unflatten(0, x.shape[:-1])


def _faster(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # first: what follows would break the graph
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim > 1
        and x.numel() >= ENOUGH_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


class _OneDNN(torch.autograd.Function):
    """Rows N: x (N, I), weight (O, I), bias (O,) -> (N, O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.T) if for_x else None,
            _product(grad.T, x.T) if for_weight else None,
            grad.sum(0) if for_bias else None,
        )


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b^T + bias."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
