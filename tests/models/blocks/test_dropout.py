"""Masks drop what they should; attention is PyTorch's where nothing is dropped, and its mean where something is."""

import pytest
import torch
import torch.nn.functional as F

from models.blocks.dropout import causal_attention, keep_mask


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_masks_drop_with_their_probability_and_repeat_with_the_seed(p: float) -> None:
    torch.manual_seed(0)
    mask = keep_mask((1001, 501), p)
    assert abs((~mask).double().mean().item() - p) < 0.003
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
