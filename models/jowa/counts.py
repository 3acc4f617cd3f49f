"""How many entries each loss term of a batch is a mean over: what makes parts of a batch add up to the whole.

A batch may be spread over processes or taken in parts. Each part then divides its sums by the counts of the whole
batch, so that totals and gradients of the parts simply add up, however unevenly padding is spread. Counts come from
masks alone: they are known before any network runs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.api import Batch


@dataclass(frozen=True)
class Counts:
    """Float64 scalars: predicted tokens, real steps that nobody imagined, pairs of TD learning, steps not padded."""

    observations: Tensor
    real: Tensor
    pairs: Tensor
    steps: Tensor

    @classmethod
    def of(cls, batch: Batch, tokens_per_frame: int) -> "Counts":
        """The counts of one batch (which may be part of a larger one)."""
        real_BT = batch.real_mask()
        found = (
            real_BT.sum() * tokens_per_frame - real_BT[:, 0].sum(),  # a segment's first token has no prediction
            real_BT.sum(),
            pair_mask(batch).sum(),
            batch.mask_BT.sum(),
        )
        return cls(*(count.double() for count in found))

    def as_tensor(self) -> Tensor:
        """(4,) float64, to be summed over processes in one message."""
        return torch.stack([self.observations, self.real, self.pairs, self.steps])

    @classmethod
    def from_tensor(cls, counts_4: Tensor) -> "Counts":
        """Back from `as_tensor`."""
        return cls(*counts_4)


def pair_mask(batch: Batch) -> Tensor:
    """(B, T) bool: real steps with a real successor in the segment, and real steps that end the game."""
    followed_BT = torch.zeros_like(batch.mask_BT)
    followed_BT[:, :-1] = batch.mask_BT[:, :-1] & batch.mask_BT[:, 1:]
    return followed_BT | (batch.ends_BT.bool() & batch.mask_BT)
