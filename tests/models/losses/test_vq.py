import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses.vq import code_perplexity, commitment, motion_weight, reconstruction_l1


def frames(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def test_reconstruction_is_measured_on_the_scale_from_minus_one_to_one() -> None:
    assert reconstruction_l1(frames(0.0, 1.0), frames(0.5, 0.75)).item() == pytest.approx(2 * (0.5 + 0.25) / 2)


def test_weights_move_the_loss_without_scaling_it() -> None:
    x, x_hat, weight = frames(0.0, 1.0), frames(0.5, 0.75), frames(1.0, 3.0)
    expected = 2 * (0.5 * 0.5 + 1.5 * 0.25) / 2  # weights over their mean: 0.5 and 1.5
    assert reconstruction_l1(x, x_hat, weight).item() == pytest.approx(expected)
    assert reconstruction_l1(x, x_hat, 7 * weight).item() == pytest.approx(expected)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        reconstruction_l1(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))


def test_commitment_moves_each_side_by_its_own_term() -> None:
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    codes = torch.tensor([0.0, 4.0], requires_grad=True)
    loss = commitment(z, codes, beta=0.5)
    assert loss.item() == pytest.approx(1.5 * (1 + 4) / 2)
    loss.backward()
    assert codes.grad is not None and codes.grad.tolist() == [-1.0, 2.0]  # 2 (z_q - z) / 2
    assert z.grad is not None and z.grad.tolist() == [0.5, -1.0]  # beta 2 (z - z_q) / 2


def test_losses_are_float32_under_bfloat16() -> None:
    z = torch.full((4,), 1.0, dtype=torch.bfloat16)
    assert commitment(z, z + 1).dtype == torch.float32
    assert reconstruction_l1(z, z).dtype == torch.float32


def test_perplexity_of_hand_counted_tokens() -> None:
    assert code_perplexity(torch.tensor([[3, 3], [3, 3]]), 8).item() == pytest.approx(1.0)
    assert code_perplexity(torch.tensor([0, 1, 1, 1]), 2).item() == pytest.approx(4 / 3**0.75)


@given(st.integers(1, 50), st.integers(1, 4))
def test_perplexity_of_evenly_used_codes_is_their_number(codes: int, times: int) -> None:
    tokens = torch.arange(codes).repeat(times)
    assert math.isclose(code_perplexity(tokens, 64).item(), codes, rel_tol=1e-4)


@pytest.mark.parametrize("tokens", [[-1], [8], []])
def test_perplexity_refuses_tokens_outside_the_vocabulary(tokens: list[int]) -> None:
    with pytest.raises(ValueError, match=r"tokens in 0\.\.7"):
        code_perplexity(torch.tensor(tokens, dtype=torch.int64), 8)


def test_motion_weighs_what_differs_from_the_background() -> None:
    background = frames(0.25, 0.25)[0]  # (1, H, W)
    now = torch.cat([frames(0.25, 0.75), frames(0.0, 0.25)])
    assert motion_weight(now, background, gain=8.0).flatten(1).tolist() == [[1.0, 17.0], [17.0, 1.0]]
