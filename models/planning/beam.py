"""Beam search over imagined steps, for many environments at once (arXiv 2410.00564, section 3.3).

Shapes: N environments, W width, M = N * (nodes of an environment) rows, A actions. One level costs one step of the
world model for N * W * W rows (N * W on the first).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.api import Context, WorldModel


@dataclass(frozen=True)
class Beam:
    """How wide and how deep to search. Raises ValueError below 1."""

    width: int = 2
    horizon: int = 2

    def __post_init__(self) -> None:
        if self.width < 1 or self.horizon < 1:
            raise ValueError(f"Beam of width {self.width} and horizon {self.horizon}: both must be at least 1")


def masked_values(values_NA: Tensor, legal_NA: Tensor) -> Tensor:
    """Values with illegal actions at -inf. Raises ValueError for another shape, or a row without a legal action."""
    if values_NA.shape != legal_NA.shape or legal_NA.dtype != torch.bool or not bool(legal_NA.any(1).all()):
        raise ValueError(
            f"Legal actions {tuple(legal_NA.shape)} of {legal_NA.dtype} for values {tuple(values_NA.shape)}: "
            "give bool of the same shape with at least one legal action a row"
        )
    return values_NA.masked_fill(~legal_NA, -torch.inf)


def plan(world: WorldModel, context: Context, legal_NA: Tensor, beam: Beam, gamma: float) -> Tensor:
    """First action (N,) long of the best path: sum_i gamma^i r_i + gamma^depth * max legal Q at its end.

    Every kept node expands its W best legal actions, then the W best nodes are kept; predicted ends are not used.
    A node with fewer than W legal actions fills up with paths of value -inf, which are never better than a legal one.
    The context must leave room for the horizon. Raises ValueError where it does not, or for legal actions that do not
    fit the context.
    """
    rows = context.tokens_NCK.shape[0]
    here = world.reset(context)
    width = min(beam.width, int(legal_NA.sum(1).max()))
    values_MA, legal_MA = masked_values(here.values_NA, legal_NA), legal_NA
    returns_M = values_MA.new_zeros(rows)  # discounted rewards so far
    first_NM = torch.empty(rows, 0, dtype=torch.long, device=values_MA.device)
    for depth in range(1, beam.horizon + 1):
        top_MW = values_MA.topk(width, dim=1)
        actions_M = top_MW.indices.flatten()
        parents_M = torch.arange(len(values_MA), device=values_MA.device).repeat_interleave(width)
        world.gather(parents_M)
        here = world.step(actions_M)
        returns_M = returns_M[parents_M] + gamma ** (depth - 1) * here.rewards_N
        returns_M = returns_M.masked_fill(top_MW.values.flatten().isneginf(), -torch.inf)
        legal_MA = legal_MA[parents_M]
        values_MA = masked_values(here.values_NA, legal_MA)
        first_M = actions_M if depth == 1 else first_NM.flatten()[parents_M]
        scores_NM = (returns_M + gamma**depth * values_MA.amax(1)).unflatten(0, (rows, -1))
        kept_NW = scores_NM.topk(min(width, scores_NM.shape[1]), dim=1).indices
        nodes = scores_NM.shape[1]
        kept_M = (kept_NW + nodes * torch.arange(rows, device=kept_NW.device)[:, None]).flatten()
        first_NM = first_M[kept_M].unflatten(0, (rows, -1))
        if depth < beam.horizon:
            world.gather(kept_M)
            values_MA, legal_MA, returns_M = values_MA[kept_M], legal_MA[kept_M], returns_M[kept_M]
    return first_NM[:, 0]
