"""Masks drop what they should; attention is PyTorch's where nothing is dropped, and its mean where something is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.cpu import shortcuts
from models.cpu.dropout import Dropout, causal_attention, keep_mask


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_masks_drop_with_their_probability_and_repeat_with_the_seed(p: float) -> None:
    torch.manual_seed(0)
    mask = keep_mask((1001, 501), p)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert abs((mask == 0).double().mean().item() - p) < 0.003
    torch.manual_seed(0)
    assert torch.equal(mask, keep_mask((1001, 501), p))


def test_attention_is_causal_and_right_on_average() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 7, 4) for _ in range(3))
    exact = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(causal_attention(query, key, value, 0.0), exact)
    torch.testing.assert_close(causal_attention(query, key, value, 1e-9), exact)  # drops nothing: the other path
    mean = torch.stack([causal_attention(query, key, value, 0.1) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, exact, atol=0.05, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_is_scaled_and_what_is_dropped_has_no_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((300, 301), 2.0, dtype=dtype, requires_grad=True)
    y = Dropout(0.25)(x)
    y.float().sum().backward()
    assert x.grad is not None and y.dtype == dtype
    dropped = y == 0
    assert abs(dropped.double().mean().item() - 0.25) < 0.01
    for values, kept in ((y, 8 / 3), (x.grad, 4 / 3)):
        torch.testing.assert_close(values.float(), torch.where(dropped, 0.0, kept), atol=0, rtol=0.005)


def test_evaluation_and_zero_change_nothing() -> None:
    x = torch.randn(5, 6)
    assert torch.equal(Dropout(0.5).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)


def test_the_plain_way_draws_as_pytorch_does() -> None:
    x, query, key, value = torch.randn(50, 60), *torch.randn(3, 2, 3, 7, 4)
    with shortcuts.off():
        torch.manual_seed(1)
        ours = Dropout(0.5)(x), causal_attention(query, key, value, 0.3)
    torch.manual_seed(1)
    theirs = nn.Dropout(0.5)(x), F.scaled_dot_product_attention(query, key, value, dropout_p=0.3, is_causal=True)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    torch.manual_seed(1)
    assert not torch.equal(Dropout(0.5)(x), theirs[0])
