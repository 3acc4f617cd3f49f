"""What tests of every family need whose actor-critic practises in a world model: segments, and gradients of losses."""

from typing import Any

import torch
from torch import Tensor

from models.api import Batch, FrameBatch, Moment, rows_of
from models.practice.agent import PracticeAgent

ACTIONS, SIDE = 5, 32  # of segments
LEGAL = torch.tensor([[True] * ACTIONS, [True, False, True, False, False]])  # in both of their games
OBJECTIVES = ("tokenizer", "world_model", "actor_critic")


def segments(rows: int = 5, steps: int = 3, side: str = "left") -> Batch:
    """Random ones, the second of which is a step short on one side."""
    draws = torch.Generator().manual_seed(1)
    mask_BT = torch.ones(rows, steps, dtype=torch.bool)
    mask_BT[1, 0 if side == "left" else -1] = False
    return Batch(
        actions_BT=torch.randint(ACTIONS, (rows, steps), generator=draws),
        rewards_BT=torch.randint(-9, 9, (rows, steps), generator=draws).float(),
        ends_BT=torch.zeros(rows, steps),
        mask_BT=mask_BT,
        games_B=torch.arange(rows) % 2,
        frames_BTCHW=torch.randint(0, 256, (rows, steps, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws),
    )


def frames_of(batch: Batch, step: int) -> FrameBatch:
    """The frames of one step of segments."""
    assert batch.frames_BTCHW is not None
    return FrameBatch(frames_nCHW=batch.frames_BTCHW[:, step], games_n=torch.zeros(len(batch.games_B)).long())


def gradients(agent: PracticeAgent, objective: str, batch: Any, *parts: slice) -> tuple[float, dict[str, Tensor]]:
    """The loss, and by parameter its gradient, of a batch taken in parts."""
    rows, total = len(batch.games_n if objective == "tokenizer" else batch.games_B), 0.0
    counts = agent.counts(objective, batch)
    for network in agent.networks.values():
        network.zero_grad(set_to_none=True)
    for part in parts or (slice(0, rows),):
        losses = agent.loss(objective, rows_of(batch, part), counts, Moment(4, part.start, rows))
        losses.total.backward()
        total += losses.total.item()
    named = ((f"{name}.{key}", each) for name, net in agent.networks.items() for key, each in net.named_parameters())
    return total, {name: each.grad.clone() for name, each in named if each.grad is not None}
