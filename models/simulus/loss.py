"""What Simulus's world model loses: cross entropies of tokens, of rewards and ends, and of the ensemble's heads.

Source: arXiv 2502.11537, section 2, with its code. A batch may be taken in parts, whose totals and gradients add up.
Shapes: B segments, T blocks, K tokens a frame, D width.
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.api import Batch, Losses, Moment, weighted
from models.losses.segments import end_loss, masked_mean, observation_errors, row_means
from models.practice.blocks import learned, learned_counts
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
    if batch.tokens_BTK is None:
        raise ValueError("The batch has frames but no tokens: encode them with the tokenizer first")
    config, steps = model.config, batch.tokens_BTK.shape[1]
    behind, latents_BTKD = slice(config.context, steps), foreseen.latents_BTKD
    tokens_BTK, learned_BT = batch.tokens_BTK[:, behind], learned(batch, config.context)[:, behind]
    known_BT, rewards_BT = rewarded(batch, config.last_rewards), batch.rewards_BT
    ahead_BTD = latents_BTKD[:, 1:, -1]
    seen = observation_errors(model.head_observations(latents_BTKD[:, behind]).flatten(1, 2), tokens_BTK, learned_BT, 0)
    earned_BT = model.bins.errors(
        model.head_rewards(ahead_BTD), rewards_BT.sign() if config.clip_rewards else rewards_BT
    )
    terms = {
        "observations": masked_mean(*seen, counts_3[0]),
        "rewards": masked_mean(earned_BT, known_BT, counts_3[2]),
        "ends": end_loss(model.head_ends(ahead_BTD), batch.ends_BT, known_BT, counts_3[2]),
    }
    if curious and len(model.ensemble):
        logits_BTKV = model.ensemble.logits(latents_BTKD[:, behind], moment.first, moment.count)
        errors = observation_errors(logits_BTKV.flatten(1, 2), tokens_BTK, learned_BT, 0)
        terms["curiosity"] = masked_mean(*errors, counts_3[0])
    rows_B = row_means(*seen) + row_means(earned_BT, known_BT)
    return replace(weighted(terms, dict.fromkeys(terms, 1.0)), rows_B=rows_B)
