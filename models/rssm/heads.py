"""Perceptrons that read features of states: rewards, values, ends; and the policy of an actor with bounded actions.

Sources: arXiv 2010.02193, section 2.2; a Gaussian cut off at -1 and 1 (Johnson, Kotz, Balakrishnan, "Continuous
Univariate Distributions", chapter 10), drawn by inverting its distribution function.

Shapes: `...` any axes, Z numbers of a feature, A numbers of an action.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.rssm.chance import Numbers
from models.rssm.config import HeadConfig

LEAST_STD = 0.1
EDGE = 1e-6  # an action keeps so far from -1 and 1
ROOT2, ROOT_PI2 = math.sqrt(2.0), math.sqrt(2.0 * math.pi)


class Perceptron(nn.Module):
    """(..., Z) -> (..., outputs): layers with ELU, and a last one without."""

    def __init__(self, config: HeadConfig, feature: int, outputs: int = 1) -> None:
        super().__init__()
        widths = [feature] + [config.units] * config.layers
        self.layers = nn.ModuleList(nn.Linear(seen, config.units) for seen in widths[:-1])
        self.out = nn.Linear(widths[-1], outputs)

    def hidden(self, features: Tensor) -> Tensor:
        """What the last layer reads."""
        for layer in self.layers:
            features = F.elu(layer(features))
        return features

    def forward(self, features: Tensor) -> Tensor:
        """(..., Z) -> (..., outputs), float32."""
        return self.out(self.hidden(features)).float()


class Number(Perceptron):
    """The mean of one number: (..., Z) -> (...)."""

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return super().forward(features)[..., 0]


def log_chance(means: Tensor, numbers: Tensor) -> Tensor:
    """Of numbers (...) under Gaussians of std 1, without their constant."""
    return -0.5 * (numbers - means).square()


@dataclass(frozen=True)
class BoundedGaussian:
    """Gaussians (..., A) of which nothing beyond -1 and 1 is left. raw: what the network said of the mean."""

    raw: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def stacked(cls, steps: "Sequence[BoundedGaussian]") -> "BoundedGaussian":
        """Those of steps (N, A) as those of a sequence (N, H, A)."""
        return cls(*(torch.stack([getattr(step, name) for step in steps], 1) for name in ("raw", "mean", "std")))

    def before_last(self) -> "BoundedGaussian":
        """Of a sequence (N, H, A) all but the last step."""
        return BoundedGaussian(self.raw[:, :-1], self.mean[:, :-1], self.std[:, :-1])

    def _ends(self) -> tuple[Tensor, Tensor]:
        """-1 and 1 in units of the std."""
        return (-1 - self.mean) / self.std, (1 - self.mean) / self.std

    def draw(self, uniform: Tensor) -> Tensor:
        """The actions at those shares of all chance, with a gradient to mean and std, inside -1 and 1."""
        low, high = (_below(each) for each in self._ends())
        share = low + uniform * (high - low)
        most = 1 - torch.finfo(share.dtype).eps  # where all chance lies below 1, rounding could reach infinity
        drawn = self.mean + self.std * ROOT2 * torch.erfinv((2 * share - 1).clamp(-most, most))
        inside = drawn.clamp(-1 + EDGE, 1 - EDGE)
        return drawn + (inside - drawn).detach()

    @property
    def mode(self) -> Tensor:
        """The likeliest actions."""
        return self.mean.clamp(-1, 1)

    def log_chance(self, actions: Tensor) -> Tensor:
        """Log density of actions, summed over their numbers: (...)."""
        low, high = self._ends()
        whole = (_below(high) - _below(low)).log()
        distance = (actions - self.mean) / self.std
        return (-0.5 * distance.square() - (self.std * ROOT_PI2).log() - whole).sum(-1)

    def entropy(self) -> Tensor:
        """In nats, summed over the numbers of an action: (...)."""
        low, high = self._ends()
        whole = _below(high) - _below(low)
        bent = (low * _density(low) - high * _density(high)) / (2 * whole)
        return ((self.std * whole * ROOT_PI2).log() + 0.5 + bent).sum(-1)


def _below(x: Tensor) -> Tensor:
    """The chance that a standard Gaussian stays below."""
    return 0.5 * (1 + torch.erf(x / ROOT2))


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square()) / ROOT_PI2


class Policy(Perceptron):
    """Bounded Gaussians over actions: (..., Z) -> (..., A)."""

    def __init__(self, config: HeadConfig, feature: int, actions: int) -> None:
        super().__init__(config, feature, actions)
        self.std = nn.Linear(config.units, actions)

    def policy(self, features: Tensor) -> BoundedGaussian:
        """What is to be done in states of these features."""
        hidden = self.hidden(features)
        raw, std = self.out(hidden).float(), self.std(hidden).float()
        return BoundedGaussian(raw, torch.tanh(raw), 2 * torch.sigmoid(std / 2) + LEAST_STD)

    def act(self, features: Tensor, draws: Numbers | None) -> Tensor:
        """Actions (..., A), drawn, or the likeliest where `draws` is None."""
        found = self.policy(features)
        return found.mode if draws is None else found.draw(draws.uniform("action", found.mean))
