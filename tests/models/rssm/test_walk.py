"""A layer of a walk gives what `F.linear` gives, and its weight the same gradient, in whatever type."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.rssm.walk import Layer, walked

STEPS = 4


def layer(bias: bool = True, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(5, 5, generator=draw, dtype=dtype) for _ in range(2))
    found = [weight, x] + [torch.randn(5, generator=draw, dtype=dtype)] * bias
    return tuple(each.requires_grad_() for each in found)


def walk(call: Layer, x: Tensor) -> Tensor:
    for _ in range(STEPS):
        out = call(x)
        x = torch.tanh(F.pad(out, (0, x.shape[1] - out.shape[1])) + 0.1 * x)
    return x


def plain(weight: Tensor, bias: Tensor | None = None) -> Layer:
    return partial(F.linear, weight=weight, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sliced", [True, False])
def test_gradients_of_a_walk_are_those_of_linear_layers(bias: bool, sliced: bool) -> None:
    found = []
    for linear in (plain, walked):
        weight, x, *rest = layer(bias)
        out = walk(linear(weight[:3] if sliced else weight, *([rest[0][:3] if sliced else rest[0]] if rest else [])), x)
        out.square().sum().backward()
        found.append((out.detach(), *(each.grad for each in (weight, x, *rest))))
    for one, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, one, atol=1e-12, rtol=1e-12)


def test_a_weight_that_learns_nothing_asks_for_nothing_and_passes_gradients_on() -> None:
    weight, x, bias = layer()
    out = walk(walked(weight.detach(), bias.detach()), x)
    out.sum().backward()
    assert x.grad is not None and weight.grad is None and bias.grad is None
    with torch.no_grad():
        assert torch.equal(walk(walked(weight, bias), x), out)


def test_steps_that_lead_to_no_loss_add_nothing() -> None:
    weight, x, bias = layer()
    call = walked(weight, bias)
    one = call(x)
    call(one)
    one.sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones(5, 5, dtype=torch.float64).mT @ x.detach())


def test_autocast_rounds_a_weight_and_leaves_gradients_in_the_type_of_weights() -> None:
    weight, x, bias = layer(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = walked(weight, bias)(x)
        assert out.dtype == torch.bfloat16 and torch.equal(out, F.linear(x, weight, bias))
    out.float().sum().backward()
    assert {each.grad.dtype for each in (weight, x, bias) if each.grad is not None} == {torch.float32}
    torch.testing.assert_close(bias.grad, torch.full((5,), 5.0))
