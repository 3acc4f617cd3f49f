"""What Simulus's world model loses: cross entropies of tokens, of rewards and ends, and of the ensemble's heads.

Source: arXiv 2502.11537, section 2, with its code. A batch may be taken in parts, whose totals and gradients add up.
Shapes: B segments, T blocks, K tokens a frame, D width.
"""

import torch
from torch import Tensor

from models.api import Batch, Losses, Moment
from models.losses.segments import observation_errors
from models.practice.blocks import learned, learned_counts
from models.practice.loss import require_tokens, world_losses
from models.practice.outcome import outcome_errors
from models.simulus.world_model import Foreseen, WorldModel


def rewarded(batch: Batch, last: bool) -> Tensor:
    """Blocks (B, T) whose reward and end are learned: all real ones or, without `last`, those that another follows.

    The context is among them, as in the original.
    """
    mask_BT = batch.real_mask()
    if last:
        return mask_BT
    return mask_BT & torch.cat([mask_BT[:, 1:], torch.zeros_like(mask_BT[:, :1])], dim=1)


def world_counts(batch: Batch, model: WorldModel) -> Tensor:
    """(3,) float64: predicted observation tokens, blocks that are learned from, blocks with rewards."""
    config = model.config
    blocks = rewarded(batch, config.last_rewards).sum().double()
    return torch.cat([learned_counts(batch, config.context, model.tokens_per_frame), blocks[None]])


def world_loss(
    model: WorldModel, foreseen: Foreseen, batch: Batch, counts_3: Tensor, moment: Moment, curious: bool
) -> Losses:
    """observations + rewards + ends + curiosity, where there is an ensemble and it is to learn.

    Tokens are learned behind the context; what the ensemble says of them divides by the same count. Rows tell what a
    segment's observations and rewards lost, each a mean over what is learned. Call it where autocast is on or off as it
    was for `foreseen`. Raises ValueError for a batch without tokens.
    """
    config, whole_BTK, latents_BTKD = model.config, require_tokens(batch), foreseen.latents_BTKD
    behind, ahead_BTD = slice(config.context, whole_BTK.shape[1]), latents_BTKD[:, 1:, -1]
    tokens_BTK, learned_BT = whole_BTK[:, behind], learned(batch, config.context)[:, behind]
    seen = observation_errors(model.head_observations(latents_BTKD[:, behind]).flatten(1, 2), tokens_BTK, learned_BT, 0)
    earned_BT = outcome_errors(model, config, model.head_rewards(ahead_BTD), batch.rewards_BT)
    earned, curiosity = (earned_BT, rewarded(batch, config.last_rewards)), None
    if curious and len(model.ensemble):
        logits_BTKV = model.ensemble.logits(latents_BTKD[:, behind], moment.first, moment.count)
        curiosity = observation_errors(logits_BTKV.flatten(1, 2), tokens_BTK, learned_BT, 0)
    return world_losses(batch, counts_3[::2], seen, earned, model.head_ends(ahead_BTD), curiosity)
