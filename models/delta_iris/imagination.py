"""A rollout of Delta-IRIS's actor-critic inside its world: what it did, what that brought, and what the target says.

Gradients pass through the actor's convolutions and memory alone. Source: arXiv 2406.19320, section 3.3.

Shapes: N rows, H imagined steps, A actions, Z outputs of the critic, C channels of R x R pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.delta_iris.actor_critic import ActorCritic
from models.losses.returns import lambda_returns
from models.practice.actor_critic import Judgement, Memory
from models.practice.draws import Draw
from models.practice.imagination import imagine as practice
from models.practice.world import Player


@dataclass(frozen=True)
class Rollout:
    """H imagined steps. Entry t of rewards and ends is what action t led to; entry t of `seen` what it was done at."""

    seen_NHCRR: Tensor  # (N, H + 1, C, R, R) in [0, 1], the last is what came of all
    actions_NH: Tensor  # long
    logits_NHA: Tensor  # float32, with gradient
    critic_NHZ: Tensor  # float32, with gradient
    rewards_NH: Tensor  # float32
    ends_NH: Tensor  # bool
    targets_NH: Tensor  # float32, the target network's values
    bootstrap_N: Tensor  # float32, its value of the last frame

    @property
    def kept(self) -> Tensor:
        """Steps up to the first end, and that one (N, H) bool: what lies behind an end is learned from by nobody."""
        ends_NH = self.ends_NH.long()
        return ends_NH.cumsum(1) - ends_NH == 0

    def returns(self, gamma: float, lambda_: float) -> Tensor:
        """Lambda-returns (N, H) of the target's values."""
        nothing_N1 = torch.zeros_like(self.bootstrap_N[:, None])
        rewards, ends = torch.cat([self.rewards_NH, nothing_N1], 1), torch.cat([self.ends_NH, nothing_N1.bool()], 1)
        values = torch.cat([self.targets_NH, self.bootstrap_N[:, None]], 1)
        return lambda_returns(rewards, ends, values, gamma, lambda_)[:, :-1]


class WithTarget:
    """The model acts and the target judges what both see. Their memory is the model's, then the target's."""

    def __init__(self, networks: ActorCritic) -> None:
        self._networks = networks

    def __call__(self, seen_NX: Tensor, memory: Memory) -> Judgement:
        """See `models.practice.imagination.Acts`: values are the target's, without gradient."""
        fast, slow = self.apart(memory)
        found = self._networks.model(seen_NX, fast)
        with torch.no_grad():
            judged = self._networks.target_model(seen_NX, slow)
        return Judgement(found.logits_NA, judged.values_N, Memory((*found.memory, *judged.memory)), found.critic_NZ)

    def told(self, actions_N: Tensor, memory: Memory) -> Memory:
        """See `models.practice.imagination.Acts`: neither remembers actions."""
        return memory

    def apart(self, memory: Memory) -> tuple[Memory, Memory]:
        """The model's and the target's."""
        half = len(memory) // 2
        return Memory(memory[:half]), Memory(memory[half:])


def imagine(
    networks: ActorCritic,
    player: Player,
    see: Callable[[Tensor], Tensor],
    tokens_NK: Tensor,
    memories: tuple[Memory, Memory],
    horizon: int,
    draw: Draw,
    legal_NA: Tensor | None = None,
) -> Rollout:
    """Play `horizon` steps from the observations `tokens_NK`, where the player stands.

    memories: of the model and of the target, of what came before. see: observations -> frames. Actions that `legal`
    excludes have logits of -inf.
    """
    both = WithTarget(networks)
    found = practice(both, player, see, tokens_NK, Memory((*memories[0], *memories[1])), horizon, draw, legal_NA, True)
    assert found.critic_NHZ is not None and found.last_NCHW is not None, "both were wanted"
    seen_NHCRR = torch.cat([found.seen_NHCHW, found.last_NCHW[:, None]], dim=1)
    with torch.no_grad():
        bootstrap_N = networks.target_model(found.last_NCHW, both.apart(found.memory)[1]).values_N
    chosen = (found.actions_NH, found.logits_NHA, found.critic_NHZ)
    return Rollout(seen_NHCRR, *chosen, found.rewards_NH, found.ends_NH, found.values_NH, bootstrap_N)
