"""What JOWA's Q heads say and how it is learned: a categorical distribution of returns (C51), or a scalar.

Shapes: Q ensemble members, B segments, T steps, A actions, Z atoms (1 for a scalar). Both kinds combine members into a
prediction (B, T, A, Z), read values from it, form a Bellman target from a successor's prediction, and measure the
distance between the two. Everything is float32. Source: arXiv 2410.00564, section 3.2.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.jowa.config import JowaConfig
from models.losses.segments import (
    bellman_value,
    c51_bellman_target,
    c51_cross_entropy,
    c51_expectation,
    c51_mixture,
    c51_support,
    half_squared_error,
    weighted_mean,
)


class Critic(Protocol):
    """A kind of Q. `weights_Q` are a random mixture's; without them members count alike."""

    def combine(self, logits_QBTAZ: Tensor, weights_Q: Tensor | None = None) -> Tensor:
        """The ensemble's prediction (B, T, A, Z)."""
        ...

    def values(self, prediction_BTAZ: Tensor) -> Tensor:
        """Expected return (..., A) of a prediction (..., A, Z)."""
        ...

    def target(self, rewards_BT: Tensor, continues_BT: Tensor, next_BTZ: Tensor) -> Tensor:
        """Bellman target (B, T, Z) from the successor's prediction for its greedy action."""
        ...

    def error(self, target_BTZ: Tensor, predicted_BTZ: Tensor) -> Tensor:
        """What temporal-difference learning minimises, of every step (B, T)."""
        ...


@dataclass(frozen=True)
class Categorical:
    """C51: members are mixed as probabilities, the error is the cross entropy."""

    atoms_Z: Tensor
    gamma: float

    def combine(self, logits_QBTAZ: Tensor, weights_Q: Tensor | None = None) -> Tensor:
        return c51_mixture(logits_QBTAZ, weights_Q)

    def values(self, prediction_BTAZ: Tensor) -> Tensor:
        return c51_expectation(prediction_BTAZ, self.atoms_Z)

    def target(self, rewards_BT: Tensor, continues_BT: Tensor, next_BTZ: Tensor) -> Tensor:
        return c51_bellman_target(rewards_BT, continues_BT, next_BTZ, self.atoms_Z, self.gamma)

    def error(self, target_BTZ: Tensor, predicted_BTZ: Tensor) -> Tensor:
        return c51_cross_entropy(target_BTZ, predicted_BTZ)


@dataclass(frozen=True)
class Scalar:
    """One number an action: members are averaged, the error is half its square."""

    gamma: float

    def combine(self, logits_QBTAZ: Tensor, weights_Q: Tensor | None = None) -> Tensor:
        return weighted_mean(logits_QBTAZ.float(), weights_Q)

    def values(self, prediction_BTAZ: Tensor) -> Tensor:
        return prediction_BTAZ[..., 0]

    def target(self, rewards_BT: Tensor, continues_BT: Tensor, next_BTZ: Tensor) -> Tensor:
        return bellman_value(rewards_BT, continues_BT, next_BTZ[..., 0], self.gamma)[..., None]

    def error(self, target_BTZ: Tensor, predicted_BTZ: Tensor) -> Tensor:
        return half_squared_error(target_BTZ[..., 0], predicted_BTZ[..., 0])


def critic_of(config: JowaConfig, device: torch.device | None = None) -> Critic:
    """The kind of Q that a configuration asks for."""
    if config.critic == "mse":
        return Scalar(config.gamma)
    return Categorical(c51_support(config.value_min, config.value_max, config.atoms, device), config.gamma)


def expected_values(logits_QBTAZ: Tensor, config: JowaConfig) -> Tensor:
    """Expected return (B, T, A) float32 of the ensemble's mean."""
    critic = critic_of(config, logits_QBTAZ.device)
    return critic.values(critic.combine(logits_QBTAZ))
