"""Returns and losses of an actor-critic that learns from imagined steps: pure functions.

Sources: lambda-returns (Sutton and Barto, chapter 12) in the form of IRIS (Micheli et al. 2023, arXiv 2209.00588,
section 2.3), the policy gradient with a baseline (Williams 1992). Shapes: N rows, H steps, A actions. All float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def discounted_returns(rewards_T: Tensor, gamma: float, after: float = 0.0) -> Tensor:
    """R_t = r_t + gamma R_{t+1} of one episode: float32 (T,). `after`: the return of what follows its last step."""
    returns = []
    for reward in reversed(rewards_T.tolist()):
        after = reward + gamma * after
        returns.append(after)
    return torch.tensor(returns[::-1], dtype=torch.float32)


def lambda_returns(
    rewards_NH: Tensor,
    ends_NH: Tensor,
    values_NH: Tensor,
    gamma: float,
    lambda_: float,
    known_NH: Tensor | None = None,
) -> Tensor:
    """R_t = r_t + (1 - d_t) gamma ((1 - lambda) V_{t+1} + lambda R_{t+1}), and R of the last step is its value V.

    rewards, values: float (N, H); ends: bool. r_t and d_t are what the action of step t led to, so those of the last
    step are not used. known: bool (N, H), the steps that have a successor or end the game, all but the last if not
    given; R of others is V. Raises ValueError where shapes differ.
    """
    if not rewards_NH.shape == ends_NH.shape == values_NH.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (rewards_NH, ends_NH, values_NH))
        raise ValueError(f"Rewards, ends and values of shapes {shapes}: they must be equal")
    values_NH = values_NH.float()
    if known_NH is None:
        known_NH = torch.ones_like(ends_NH, dtype=torch.bool)
        known_NH[:, -1] = False
    return _backwards(rewards_NH.float(), gamma * (~ends_NH.bool()).float(), values_NH, lambda_, known_NH)


def weighted_lambda_returns(rewards_NH: Tensor, discounts_NH: Tensor, values_NH: Tensor, lambda_: float) -> Tensor:
    """R_t = r_t + c_t ((1 - lambda) V_{t+1} + lambda R_{t+1}) of the first H - 1 steps, with a discount c_t for each.

    Float (N, H) -> (N, H - 1), with a gradient. r_t is what state t itself is worth. R of the last step is its value;
    its reward and discount are not used. Source: arXiv 2010.02193, equation 4.
    """
    known_NH = torch.ones_like(values_NH, dtype=torch.bool)
    known_NH[:, -1] = False
    return _backwards(rewards_NH, discounts_NH, values_NH, lambda_, known_NH)[:, :-1]


def _backwards(rewards_NH: Tensor, discounts_NH: Tensor, values_NH: Tensor, lambda_: float, known_NH: Tensor) -> Tensor:
    """Returns from the last step to the first; those that are not known are their values."""
    after_NH = F.pad(values_NH[:, 1:], (0, 1))
    returns, later_N = [], torch.zeros_like(values_NH[:, -1])
    for step in range(values_NH.shape[1] - 1, -1, -1):
        ahead_N = (1 - lambda_) * after_NH[:, step] + lambda_ * later_N
        later_N = rewards_NH[:, step] + discounts_NH[:, step] * ahead_N
        later_N = torch.where(known_NH[:, step], later_N, values_NH[:, step])
        returns.append(later_N)
    return torch.stack(returns[::-1], dim=1)


def n_step(
    rewards_NH: Tensor, ends_NH: Tensor, known_NH: Tensor, gamma: float, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What `steps` steps bring and where they lead: sum_{k<m} gamma^k r_{t+k}, gamma^m (0 behind an end), and t + m.

    m is `steps`, or fewer where the episode ends or what is known does (`known` as in `lambda_returns`). Returns
    float32, float32 and long, each (N, H); of steps that are not known they say 0, 1 and t. Nothing corrects for
    actions that another policy would take. Source: Sutton and Barto, chapter 7.
    """
    returns_NH, discounts_NH = torch.zeros_like(rewards_NH, dtype=torch.float32), torch.ones_like(rewards_NH).float()
    after_NH = torch.arange(rewards_NH.shape[1], device=rewards_NH.device).repeat(len(rewards_NH), 1)
    going_NH, last = known_NH.bool(), rewards_NH.shape[1] - 1
    for _ in range(min(steps, last + 1)):
        now_NH = after_NH.clamp(max=last)
        ended_NH = going_NH & ends_NH.bool().gather(1, now_NH)
        returns_NH = returns_NH + going_NH * discounts_NH * rewards_NH.float().gather(1, now_NH)
        discounts_NH = torch.where(going_NH, gamma * discounts_NH, discounts_NH).masked_fill(ended_NH, 0.0)
        after_NH = after_NH + going_NH
        going_NH = going_NH & ~ended_NH & known_NH.bool().gather(1, after_NH.clamp(max=last))
    return returns_NH, discounts_NH, after_NH.clamp(max=last)


def policy_gradient(logits_NHA: Tensor, actions_NH: Tensor, advantages_NH: Tensor) -> Tensor:
    """Mean of -log pi(a) sg(advantage): a scalar. actions: long."""
    return policy_errors(logits_NHA, actions_NH, advantages_NH).mean()


def policy_errors(logits_NHA: Tensor, actions_NH: Tensor, advantages_NH: Tensor) -> Tensor:
    """-log pi(a) sg(advantage) of each step: float32 (N, H). actions: long."""
    errors = F.cross_entropy(logits_NHA.float().flatten(0, -2), actions_NH.flatten(), reduction="none")
    return errors.view(actions_NH.shape) * advantages_NH.detach()


def value_error(values_NH: Tensor, returns_NH: Tensor) -> Tensor:
    """Mean of (V - sg(R))^2: a scalar."""
    return F.mse_loss(values_NH.float(), returns_NH.detach())


def entropy(logits_NHA: Tensor) -> Tensor:
    """Mean entropy of the policy in nats: a scalar. A logit of -inf is an action that there is not."""
    return entropies(logits_NHA).mean()


def entropies(logits_NHA: Tensor) -> Tensor:
    """Entropy of the policy at each step, in nats: float32 (N, H)."""
    log_probs_NHA = logits_NHA.float().log_softmax(-1)
    return -(log_probs_NHA.exp() * log_probs_NHA.masked_fill(log_probs_NHA.isneginf(), 0.0)).sum(-1)
