"""What IRIS's world model loses (arXiv 2209.00588, section 2.2 and appendix A).

A batch may be taken in parts: each divides its sums by the counts of the whole batch, so that totals and gradients of
the parts add up. Shapes: B segments, T steps, K tokens a frame.
"""

from typing import Any

import torch
from torch import Tensor

from models.api import Batch, Losses
from models.iris.config import WorldModelConfig
from models.practice.loss import token_world_loss
from models.practice.world import Outputs


def world_model_counts(batch: Batch, config: WorldModelConfig) -> Tensor:
    """(2,) float64: predicted observation tokens, and real steps."""
    real_BT = batch.real_mask()
    # A segment's first tokens have no prediction.
    unpredicted = real_BT[:, 0].sum() * config.ahead
    return torch.stack([real_BT.sum() * config.tokens_per_frame - unpredicted, real_BT.sum()]).double()


def world_model_loss(outputs: Outputs, batch: Batch, counts_2: Tensor, **outcome: Any) -> Losses:
    """See `token_world_loss`, to which `outcome` goes too; padded steps are ignored."""
    return token_world_loss(outputs, batch, batch.real_mask(), counts_2, **outcome)
