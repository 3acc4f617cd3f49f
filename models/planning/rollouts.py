"""Planning by rollouts: try each first action, go on greedily, and compare what comes of it.

One step of policy improvement (Tesauro and Galperin 1996, "On-line Policy Improvement using Monte-Carlo Search"): the
player that is improved is the greedy one, and a first action is worth the rewards of the imagined steps and the value
of where they end. A beam takes the maximum over paths and with it over errors of their values, at every level; here one
maximum is taken, over first actions. A level costs one step of the world model for N * W rows.

Shapes: N environments, W first actions of each, M = N * W rows, A actions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.api import Context, WorldModel
from models.limits import Count, check
from models.planning.beam import Gain, Leaf, gains, leaf_values, masked_values


@dataclass(frozen=True)
class Rollouts:
    """How many first actions to try, those of greatest Q, how far to go on, what a step brings and the end is worth.

    A first action is held for `hold` steps before the greedy player goes on: one step of a game is often too short
    for an action to tell. Raises ValueError below 1.
    """

    width: Count = 18
    horizon: Count = 3
    leaf: Leaf = "max"
    gain: Gain = "likeliest"
    hold: Count = 1

    def __post_init__(self) -> None:
        check(self, "rollouts")

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """Actions (N,) long; of equal ones that of greater Q. The context must leave room for the horizon.
        Predicted ends are not used, as in beam search.

        Raises ValueError where it does not, or for legal actions that do not fit the context.
        """
        masked_NA = masked_values(world.reset(context).values_NA, legal_NA)
        width = min(self.width, int(legal_NA.sum(1).max()))
        first = masked_NA.topk(width, dim=1)  # a row with fewer legal actions fills up with others, at -inf
        legal_MA = legal_NA.repeat_interleave(width, 0)
        actions_M = first.indices.flatten()
        parents_M: Tensor | None = torch.zeros_like(actions_M)
        returns_M = torch.zeros(len(actions_M), device=legal_NA.device)
        for depth in range(self.horizon):
            here = world.step(actions_M, parents_M)
            returns_M = returns_M + gamma**depth * gains(here, self.gain)
            masked_MA = masked_values(here.values_NA, legal_MA)
            actions_M, parents_M = (actions_M if depth + 1 < self.hold else masked_MA.argmax(1)), None
        worths_M = returns_M + gamma**self.horizon * leaf_values(here, masked_MA, self.leaf)
        scores_NW = worths_M.view_as(first.values).masked_fill(first.values.isneginf(), -torch.inf)
        return first.indices.gather(1, scores_NW.argmax(1, keepdim=True))[:, 0]
