"""What an actor-critic learns of an imagined rollout."""

import pytest
import torch

from models.practice.config import ActorCriticConfig
from models.practice.imagination import Rollout
from models.practice.loss import actor_critic_loss


def test_the_last_step_gives_its_value_and_is_not_learned_from() -> None:
    draws = torch.Generator().manual_seed(3)
    logits, values = torch.randn(2, 4, 3, generator=draws), torch.randn(2, 4, generator=draws)
    logits.requires_grad_()
    values.requires_grad_()
    rollout = Rollout(
        seen_NHCHW=torch.zeros(2, 4, 1, 8, 8),
        actions_NH=torch.randint(3, (2, 4), generator=draws),
        logits_NHA=logits,
        values_NH=values,
        rewards_NH=torch.tensor([[1.0, 0, -1, 1], [0, 0, 1, 1]]),
        ends_NH=torch.tensor([[False, True, False, False], [False] * 4]),
    )
    losses = actor_critic_loss(rollout, ActorCriticConfig(value=0.5, entropy=0.1))
    losses.total.backward()
    terms = {name: float(each) for name, each in losses.terms.items()}
    assert terms["imagined_return"] == 1.5
    assert losses.total.item() == pytest.approx(terms["actions"] + 0.5 * terms["values"] - 0.1 * terms["entropy"])
    assert logits.grad is not None and values.grad is not None
    for gradient in (logits.grad, values.grad):
        assert not gradient[:, -1].any() and bool(gradient[:, :-1].flatten(1).any(1).all())
