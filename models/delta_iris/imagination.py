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
from models.practice.actor_critic import Memory
from models.practice.draws import Draw
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
    memory, slow = memories
    steps, seen = [], see(tokens_NK)
    for _ in range(horizon):
        found = networks.model(seen, memory)
        memory, logits_NA = found.memory, found.logits_NA
        with torch.no_grad():
            judged = networks.target_model(seen, slow)
        slow = judged.memory
        if legal_NA is not None:
            logits_NA = logits_NA.masked_fill(~legal_NA, -torch.inf)
        actions_N = draw("actions", logits_NA.detach())
        after = player.step(actions_N, draw)
        assert after.tokens_NK is not None, "a next frame was wanted"
        steps.append((seen, actions_N, logits_NA, found.critic_NZ, after.rewards_N, after.ends_N, judged.values_N))
        seen = see(after.tokens_NK)
    with torch.no_grad():
        bootstrap_N = networks.target_model(seen, slow).values_N
    frames_NHCRR, actions, logits, critic, rewards, ends, targets = (
        torch.stack(each, dim=1) for each in zip(*steps, strict=True)
    )
    seen_NHCRR = torch.cat([frames_NHCRR, seen[:, None]], dim=1)
    return Rollout(seen_NHCRR, actions, logits, critic, rewards, ends, targets, bootstrap_N)
