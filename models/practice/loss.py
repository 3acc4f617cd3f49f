"""What an actor-critic learns from a rollout that it imagined (arXiv 2209.00588, section 2.3 and appendix A.3).

Shapes: N rows, H imagined steps.
"""

from dataclasses import replace
from typing import Protocol

from models.api import Losses, weighted
from models.losses.returns import entropy, lambda_returns, policy_gradient, value_error
from models.practice.imagination import Rollout


class Learns(Protocol):
    """Discount and weights of an actor-critic's config."""

    @property
    def gamma(self) -> float: ...

    @property
    def lambda_(self) -> float: ...

    @property
    def value(self) -> float: ...

    @property
    def entropy(self) -> float: ...


def actor_critic_loss(rollout: Rollout, config: Learns) -> Losses:
    """actions + value * values - entropy * entropy, means over rows and the first H - 1 steps.

    The value of the last state is where returns begin, so its own step is not learned from. Steps after an imagined end
    count like others, as in the original. A rollout's mean sum of rewards is told beside the terms.
    """
    returns_NH = lambda_returns(
        rollout.rewards_NH, rollout.ends_NH, rollout.values_NH.detach(), config.gamma, config.lambda_
    )
    learned = slice(None, -1)
    logits_NHA, values_NH = rollout.logits_NHA[:, learned], rollout.values_NH[:, learned]
    advantages_NH = returns_NH[:, learned] - values_NH
    terms = {
        "actions": policy_gradient(logits_NHA, rollout.actions_NH[:, learned], advantages_NH),
        "values": value_error(values_NH, returns_NH[:, learned]),
        "entropy": entropy(logits_NHA),
    }
    losses = weighted(terms, {"actions": 1.0, "values": config.value, "entropy": -config.entropy})
    return replace(losses, terms={**losses.terms, "imagined_return": rollout.rewards_NH.sum(1).mean()})
