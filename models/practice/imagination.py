"""Imagination: an actor-critic practises inside a world model, in one batched rollout.

The actor sees what its family shows of tokens: decoded frames, or their codes. Gradients pass through its own network
and its memory alone; the world and the tokenizer are read without. Source: arXiv 2209.00588, section 2.3.

Shapes: N rows, H steps, K tokens a frame, C channels of h x w pixels, A actions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from models.practice.actor_critic import Judgement, Memory
from models.practice.draws import Draw
from models.practice.world import Player


@dataclass(frozen=True)
class Rollout:
    """H imagined steps. Entry t of rewards and ends is what action t led to."""

    seen_NHCHW: Tensor  # what the actor saw: frames, float in [0, 1], or codes
    actions_NH: Tensor  # long
    logits_NHA: Tensor  # float32, with gradient
    values_NH: Tensor  # float32, with gradient
    rewards_NH: Tensor  # float32: in {-1, 0, 1}, or what a world model expects
    ends_NH: Tensor  # bool
    memory: Memory = field(default=Memory(), kw_only=True)  # of the actor, behind the last step
    critic_NHZ: Tensor | None = field(default=None, kw_only=True)  # with gradient, of a critic with bins
    last_NCHW: Tensor | None = field(default=None, kw_only=True)  # what the actor would see behind it, where wanted


class Acts(Protocol):
    """What of a `models.practice.actor_critic.Actor` a rollout asks for."""

    def __call__(self, seen_NX: Tensor, memory: Memory) -> Judgement:
        """__call__(what every row sees, the memory before) -> what that says, and the memory behind it"""
        ...

    def told(self, actions_N: Tensor, memory: Memory) -> Memory:
        """told(what was done, the memory) -> the memory behind it"""
        ...


def imagine(
    actor: Acts,
    player: Player,
    see: Callable[[Tensor], Tensor],
    tokens_NK: Tensor,
    memory: Memory,
    horizon: int,
    draw: Draw,
    legal_NA: Tensor | None = None,
    beyond: bool = False,
) -> Rollout:
    """Play `horizon` steps from `tokens_NK`, where the player stands, with the actor's `memory` of what came before.

    see: tokens (N, K) -> what the actor sees (N, C, h, w). Actions that `legal_NA` excludes have logits of -inf.
    beyond: whether what the last step led to is wanted too.
    """
    steps, critics = [], []
    for step in range(horizon):
        seen_NCHW = see(tokens_NK)
        judged = actor(seen_NCHW, memory)
        logits_NA, memory = judged.logits_NA, judged.memory
        if legal_NA is not None:
            logits_NA = logits_NA.masked_fill(~legal_NA, -torch.inf)
        actions_N = draw("actions", logits_NA.detach())
        memory = actor.told(actions_N, memory)
        found = player.step(actions_N, draw, observe=beyond or step < horizon - 1)
        steps.append((seen_NCHW, actions_N, logits_NA, judged.values_N, found.rewards_N, found.ends_N))
        if judged.critic_NZ is not None:
            critics.append(judged.critic_NZ)
        if found.tokens_NK is not None:
            tokens_NK = found.tokens_NK
    critic_NHZ = torch.stack(critics, dim=1) if critics else None
    stacked = (torch.stack(each, dim=1) for each in zip(*steps, strict=True))
    last_NCHW = see(tokens_NK) if beyond else None
    return Rollout(*stacked, memory=memory, critic_NHZ=critic_NHZ, last_NCHW=last_NCHW)
