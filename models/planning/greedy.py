"""The best legal action by the model's own values: no imagination, one pass through the context.

The other planners read values as this one does: with illegal actions at -inf. Shapes: N rows, A actions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.api import Context, WorldModel

Leaf = Literal["max", "mean"]  # what a state is worth: that of its best legal action, or the mean over legal actions


def masked_values(values_NA: Tensor, legal_NA: Tensor) -> Tensor:
    """Values with illegal actions at -inf.

    Raises ValueError for another shape, a row without a legal action, or a NaN, which no comparison could rank.
    """
    if values_NA.shape != legal_NA.shape or legal_NA.dtype != torch.bool or not bool(legal_NA.any(1).all()):
        raise ValueError(
            f"Legal actions {tuple(legal_NA.shape)} of {legal_NA.dtype} for values {tuple(values_NA.shape)}: "
            "give bool of the same shape with at least one legal action a row"
        )
    if bool(values_NA.isnan().any()):
        raise ValueError("The model values an action at NaN: its weights or its input are broken")
    return values_NA.masked_fill(~legal_NA, -torch.inf)


def leaf_values(masked_NA: Tensor, leaf: Leaf) -> Tensor:
    """What each state is worth (N,), of values whose illegal actions are at -inf."""
    if leaf == "max":
        return masked_NA.amax(1)
    legal_NA = ~masked_NA.isneginf()
    return masked_NA.masked_fill(~legal_NA, 0).sum(1) / legal_NA.sum(1)


@dataclass(frozen=True)
class Greedy:
    """Looks no step ahead."""

    horizon: int = 0

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """Actions (N,) long. Raises ValueError for legal actions that do not fit the context."""
        return masked_values(world.reset(context).values_NA, legal_NA).argmax(1)
