"""The faster product is `nn.Linear` up to rounding, gradients included."""

import pytest
import torch
from torch import nn

from models.blocks.linear import Linear


@pytest.mark.parametrize("shape", [(4, 40, 24), (64, 24), (3, 24), (24,)])
def test_outputs_and_gradients_are_those_of_torch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours, theirs = Linear(24, 40), nn.Linear(24, 40)
    theirs.load_state_dict(ours.state_dict())
    inputs = [torch.randn(shape), torch.randn(*shape[:-1], 40)]
    found = []
    for layer in (ours, theirs):
        x = inputs[0].clone().requires_grad_()
        y = layer(x)
        y.backward(inputs[1])
        found.append((y, x.grad, layer.weight.grad, layer.bias.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_rows_that_lie_apart_are_those_of_torch() -> None:
    torch.manual_seed(0)
    layer, wide = Linear(24, 40), torch.randn(4, 37 * 12, 24, requires_grad=True)
    found = []
    for function in (layer, torch.nn.functional.linear):
        every = wide[:, 36::37]
        y = function(every) if function is layer else function(every, layer.weight, layer.bias)
        found.append((y, *torch.autograd.grad(y.square().sum(), (wide, layer.weight, layer.bias))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
