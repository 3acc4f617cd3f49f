import math

import pytest
import torch

from models.losses.world_model import end_loss, masked_mean, observation_loss, reward_loss


def test_mean_over_the_masked_in_only_even_beside_infinities() -> None:
    values = torch.tensor([1.0, torch.inf, 5.0, torch.nan], requires_grad=True)
    mean = masked_mean(values, torch.tensor([True, False, True, False]))
    mean.backward()
    assert mean.item() == 3.0
    assert values.grad is not None and values.grad.tolist() == [0.5, 0.0, 0.5, 0.0]


def test_an_empty_mask_gives_zero_and_another_shape_is_refused() -> None:
    assert masked_mean(torch.ones(3), torch.zeros(3, dtype=torch.bool)).item() == 0.0
    with pytest.raises(ValueError, match="differ in shape"):
        masked_mean(torch.ones(3), torch.ones(2, dtype=torch.bool))


def test_observations_are_predicted_one_token_ahead() -> None:
    tokens = torch.tensor([[[0, 1], [2, 3]]])
    logits = torch.full((1, 4, 4), -30.0)
    for position, label in enumerate([1, 2, 3]):
        logits[0, position, label] = 30.0
    logits[0, 3] = torch.nan  # has no target
    assert observation_loss(logits, tokens, torch.ones(1, 2, dtype=torch.bool)).item() == pytest.approx(0, abs=1e-6)


def test_padded_steps_are_no_targets() -> None:
    tokens, logits = torch.tensor([[[0, 1], [2, 3]]]), torch.zeros(1, 4, 4)
    logits[0, 1:3] = torch.tensor([99.0, 0.0, 0.0, 0.0])  # badly wrong about the second step
    only_first = observation_loss(logits, tokens, torch.tensor([[True, False]]))
    assert only_first.item() == pytest.approx(math.log(4))
    assert observation_loss(logits, tokens, torch.zeros(1, 2, dtype=torch.bool)).item() == 0.0


def test_rewards_are_classed_by_sign() -> None:
    rewards = torch.tensor([[-3.0, 0.0, 0.5]])
    logits = torch.eye(3)[None] * 100
    assert reward_loss(logits, rewards, torch.ones(1, 3, dtype=torch.bool)).item() == pytest.approx(0, abs=1e-6)


def test_ends_by_hand() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [5.0, 5.0]]])
    mask = torch.tensor([[True, False]])
    assert end_loss(logits, torch.tensor([[1, 0]]), mask).item() == pytest.approx(-math.log(0.75))
    assert end_loss(logits, torch.tensor([[False, True]]), mask).item() == pytest.approx(-math.log(0.25))


def test_logits_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(1, 4\)"):
        observation_loss(torch.zeros(1, 3, 4), torch.zeros(1, 2, 2, dtype=torch.long), torch.ones(1, 2).bool())
