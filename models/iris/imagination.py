"""Imagination: an actor-critic practises inside a world model, in one batched rollout.

The actor sees decoded frames. Gradients pass through its own network and its LSTM's state alone; the world and the
tokenizer are read without. Source: arXiv 2209.00588, section 2.3.

Shapes: N rows, H steps, K tokens a frame, C channels of h x w pixels, A actions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.iris.actor_critic import ActorCritic, Memory
from models.iris.draws import Draw
from models.iris.world import Player


@dataclass(frozen=True)
class Rollout:
    """H imagined steps. Entry t of rewards and ends is what action t led to; frames are what the actor saw."""

    frames_NHCHW: Tensor  # float in [0, 1]
    actions_NH: Tensor  # long
    logits_NHA: Tensor  # float32, with gradient
    values_NH: Tensor  # float32, with gradient
    rewards_NH: Tensor  # float32, in {-1, 0, 1}
    ends_NH: Tensor  # bool


def imagine(
    actor_critic: ActorCritic,
    player: Player,
    decode: Callable[[Tensor], Tensor],
    tokens_NK: Tensor,
    memory: Memory,
    horizon: int,
    draw: Draw,
    legal_NA: Tensor | None = None,
) -> Rollout:
    """Play `horizon` steps from frames `tokens_NK`, with `memory` of what came before.

    decode: tokens (N, K) -> frames (N, C, h, w) in [0, 1]. Actions that `legal_NA` excludes have logits of -inf.
    """
    player.reset(tokens_NK)
    steps = []
    for step in range(horizon):
        frames_NCHW = decode(tokens_NK)
        judged = actor_critic(frames_NCHW, memory)
        logits_NA, memory = judged.logits_NA, judged.memory
        if legal_NA is not None:
            logits_NA = logits_NA.masked_fill(~legal_NA, -torch.inf)
        actions_N = draw("actions", logits_NA.detach())
        found = player.step(actions_N, draw, observe=step < horizon - 1)
        steps.append((frames_NCHW, actions_N, logits_NA, judged.values_N, found.rewards_N, found.ends_N))
        if found.tokens_NK is not None:
            tokens_NK = found.tokens_NK
    return Rollout(*(torch.stack(each, dim=1) for each in zip(*steps, strict=True)))
