"""Temporal-difference learning of a scalar Q as pure functions (Mnih et al. 2015). `...` are any axes; float32."""

from torch import Tensor


def bellman_value(rewards: Tensor, continues: Tensor, next_values: Tensor, gamma: float) -> Tensor:
    """r + gamma Q', r alone where `continues` (bool) is False. All (...)."""
    return rewards.float() + gamma * continues * next_values


def half_squared_error(target: Tensor, predicted: Tensor) -> Tensor:
    """(target - predicted)^2 / 2. All (...)."""
    return 0.5 * (target - predicted).square()
