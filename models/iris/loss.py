"""What IRIS's world model loses (arXiv 2209.00588, section 2.2 and appendix A).

A batch may be taken in parts: each divides its sums by the counts of the whole batch, so that totals and gradients of
the parts add up. Shapes: B segments, T steps, K tokens a frame.
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.api import Batch, Losses, weighted
from models.iris.config import WorldModelConfig
from models.iris.world_model import Outputs
from models.losses.segments import end_loss, masked_mean, observation_errors, reward_errors, row_means


def world_model_counts(batch: Batch, config: WorldModelConfig) -> Tensor:
    """(2,) float64: predicted observation tokens, and real steps."""
    real_BT = batch.real_mask()
    # A segment's first tokens have no prediction.
    unpredicted = real_BT[:, 0].sum() * config.ahead
    return torch.stack([real_BT.sum() * config.tokens_per_frame - unpredicted, real_BT.sum()]).double()


def world_model_loss(outputs: Outputs, batch: Batch, counts_2: Tensor) -> Losses:
    """observations + rewards + ends: cross entropies of the next tokens, the reward's sign and the end.

    Padded steps are ignored. Rows tell what a segment's observations and rewards lost, each a mean over what is real
    (Simulus, arXiv 2502.11537: by these it is drawn again). Raises ValueError for a batch without tokens.
    """
    if batch.tokens_BTK is None:
        raise ValueError("The batch has frames but no tokens: encode them with the tokenizer first")
    real_BT, (tokens, steps) = batch.real_mask(), counts_2
    seen = observation_errors(outputs.observations_BSV, batch.tokens_BTK, real_BT, outputs.ahead)
    earned_BT = reward_errors(outputs.rewards_BT3, batch.rewards_BT)
    terms = {
        "observations": masked_mean(*seen, tokens),
        "rewards": masked_mean(earned_BT, real_BT, steps),
        "ends": end_loss(outputs.ends_BT2, batch.ends_BT, real_BT, steps),
    }
    rows_B = row_means(*seen) + row_means(earned_BT, real_BT)
    return replace(weighted(terms, dict.fromkeys(terms, 1.0)), rows_B=rows_B)
