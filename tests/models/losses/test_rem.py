import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses.rem import mixture_weights, weighted_mean


@given(st.integers(1, 9), st.integers(0, 2**31))
def test_weights_are_a_convex_combination_and_depend_on_the_seed_alone(members: int, seed: int) -> None:
    weights_Q = mixture_weights(members, torch.Generator().manual_seed(seed))
    assert weights_Q.shape == (members,) and bool((weights_Q >= 0).all())
    assert weights_Q.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(weights_Q, mixture_weights(members, torch.Generator().manual_seed(seed)))


def test_a_weighted_mean_without_weights_is_the_mean() -> None:
    values = torch.arange(12.0).view(3, 2, 2)
    assert torch.equal(weighted_mean(values, None), values.mean(0))
    torch.testing.assert_close(weighted_mean(values, torch.full((3,), 1 / 3)), values.mean(0))
    assert torch.equal(weighted_mean(values, torch.tensor([0.0, 1.0, 0.0])), values[1])
