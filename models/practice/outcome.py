"""How a world model tells what an action brings, and what that is worth to a curious actor.

Rewards are told by their signs, which are drawn, or as classes of bins, of which they are what is expected (HL-Gauss).
An ensemble of heads predicts the same tokens as the model: where they disagree, an actor is rewarded for going there,
as long as play is collected. Sources: arXiv 2209.00588, section 2.2; bins and curiosity arXiv 2502.11537 (Simulus).

Shapes: B segments, T steps, N rows, D width, V reward classes or bins.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from models.losses.segments import reward_errors
from models.practice.bins import Bins
from models.practice.config import OutcomeConfig
from models.practice.curiosity import Ensemble
from models.practice.draws import Draw

SIGNS = 3  # classes -1, 0 and 1

Worth = tuple[float, float]
"""what a told reward is worth, and what disagreement is"""


class Foretells(Protocol):
    """A network whose heads read an action's hidden state; `ensemble` may be empty."""

    @property
    def bins(self) -> Bins | None: ...

    @property
    def ensemble(self) -> Ensemble: ...

    @property
    def head_rewards(self) -> Callable[[Tensor], Tensor]: ...

    @property
    def head_ends(self) -> Callable[[Tensor], Tensor]: ...


def bins_of(config: OutcomeConfig) -> Bins | None:
    """The bins of rewards, where there are any."""
    return Bins(config.reward_bins, config.reward_reach) if config.reward_bins else None


def outputs_of(config: OutcomeConfig) -> int:
    """Numbers of a head of rewards."""
    return config.reward_bins or SIGNS


def begin(bins: Bins | None, head: nn.Module) -> None:
    """Let a fresh head of rewards expect small ones, where it has bins."""
    if bins is not None:
        bins.begin([layer for layer in head.modules() if isinstance(layer, nn.Linear)][-1])


def outcome_errors(model: Foretells, config: OutcomeConfig, logits_BTV: Tensor, rewards_BT: Tensor) -> Tensor:
    """Cross entropies (B, T) of what a head of rewards says."""
    if model.bins is None:
        return reward_errors(logits_BTV, rewards_BT)
    return model.bins.errors(logits_BTV, rewards_BT.sign() if config.clip_rewards else rewards_BT)


def draw_outcome(model: Foretells, newest_ND: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Rewards (N,) float32 and ends (N,) bool behind an action's hidden state: both drawn; of bins what is expected."""
    logits_NV = model.head_rewards(newest_ND)
    rewards_N = draw("rewards", logits_NV).float() - 1 if model.bins is None else model.bins.value(logits_NV)
    return rewards_N, draw("ends", model.head_ends(newest_ND)).bool()


def worth_of(model: Foretells, rewards_N: Tensor, latents_NKD: Tensor, worth: Worth | None) -> Tensor:
    """What a step is worth (N,) where the outputs `latents` said the next frame; None: its reward."""
    if worth is None:
        return rewards_N
    real, curious = worth
    return real * rewards_N + curious * model.ensemble.disagreement(latents_NKD).mean(-1)
