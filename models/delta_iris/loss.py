"""What Delta-IRIS's networks lose: pictures and commitment, what follows a frame, and an imagined rollout.

Every term is a mean over entries of the whole batch, whose counts are given: parts of a batch add up. Source: arXiv
2406.19320, sections 3.1 to 3.3 and appendix A.

Shapes: B segments, T steps, P changes between two steps, K tokens a change, N rows, H imagined steps; C channels of
R x R pixels.
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.api import Batch, Losses, weighted
from models.delta_iris.config import DeltaActorConfig, DeltaWeights, WorldModelConfig
from models.delta_iris.imagination import Rollout
from models.delta_iris.numbers import two_hot_errors
from models.delta_iris.tokenizer import Change, Drawn
from models.delta_iris.world_model import Foretold
from models.losses.frames import motion_weight
from models.losses.returns import entropies, policy_errors
from models.losses.segments import cross_entropies, end_loss, masked_mean, reward_errors, row_means


def changes_between(mask_BT: Tensor) -> Tensor:
    """Which steps (B, T - 1) are real, and the one after them too: where a change can be seen whole."""
    return mask_BT[:, :-1] & mask_BT[:, 1:]


def tokenizer_counts(mask_BT: Tensor, padded_codes: bool) -> Tensor:
    """(2,) float64: changes whose pictures count, and those whose commitment does."""
    seen = changes_between(mask_BT).sum()
    told = torch.tensor(mask_BT[:, 1:].numel(), device=seen.device) if padded_codes else seen
    return torch.stack([seen, told]).double()


def tokenizer_loss(drawn: Drawn, change: Change, counted_P: Tensor, counts_2: Tensor, weights: DeltaWeights) -> Losses:
    """commitment mean (z - sg q)^2 + l1 mean |d| + l2 mean d^2 + worst mean over frames of max d^2; d = after - drawn.

    change: P of them. counted: (P,) bool, those whose pictures count. With `motion_gain` pixels weigh in l1 and l2 as
    `motion_weight` says of the frame before as the background.
    """
    after, gain = change.after, weights.motion_gain
    pictures, told = counts_2
    error = after.float() - drawn.frames.float()
    squared = error.square()
    away_n = (drawn.told.latents_nE - drawn.told.codes_nE.detach()).square().mean(1)
    per_change = len(away_n) // max(len(after), 1)
    weight = motion_weight(after, change.before, gain) if gain else error.new_ones(())
    each = {
        "l1": (weight * error.abs()).flatten(1).mean(1),
        "l2": (weight * squared).flatten(1).mean(1),
        "worst": squared.flatten(1).amax(1) if len(after) else error.new_zeros(0),
    }
    terms = {"commitment": away_n.sum() / (told.clamp(min=1) * max(per_change, 1)).to(away_n.dtype)}
    terms |= {name: masked_mean(values_P, counted_P, pictures) for name, values_P in each.items()}
    return weighted(terms, {name: getattr(weights, name) for name in terms})


def world_model_counts(mask_BT: Tensor, tokens_per_change: int, padded_targets: bool) -> Tensor:
    """(2,) float64: tokens of changes, and steps, from which the world model learns."""
    changes = mask_BT[:, :-1] if padded_targets else changes_between(mask_BT)
    return torch.stack([changes.sum() * tokens_per_change, mask_BT.sum()]).double()


def world_model_loss(
    found: Foretold,
    batch: Batch,
    latents_BTK: Tensor,
    counts_2: Tensor,
    config: WorldModelConfig,
    padded_targets: bool = False,
) -> Losses:
    """Weighted cross entropies of a change's tokens, the reward and the end.

    latents: those of the changes, (B, T, K), the last of which is left out. counts: see `world_model_counts`. Rows tell
    what a segment's tokens and rewards lost. ValueError for rewards that are none, and as `two_hot_errors`.
    """
    tokens, steps = counts_2
    mask_BT, latents_BPK = batch.real_mask(), latents_BTK[:, :-1]
    mask_BP = mask_BT[:, :-1] if padded_targets else changes_between(mask_BT)
    mask_BS, logits_BPKV = mask_BP[..., None].expand_as(latents_BPK).flatten(1), found.latents_BTKV[:, :-1]
    told_BS = cross_entropies(logits_BPKV.flatten(1, 2), latents_BPK.flatten(1))
    if config.rewards == "sign":
        earned_BT = reward_errors(found.rewards_BTV, batch.rewards_BT)
    else:
        if not bool(batch.rewards_BT.isfinite().all()):
            wrong = batch.rewards_BT[~batch.rewards_BT.isfinite()][0]
            raise ValueError(f"A reward of {float(wrong)} cannot be learned: mend the data")
        earned_BT = two_hot_errors(found.rewards_BTV, batch.rewards_BT, config.beyond, "reward")
    right_BS = (logits_BPKV.argmax(-1) == latents_BPK).float().flatten(1)
    terms = {
        "latents": masked_mean(told_BS, mask_BS, tokens),
        "rewards": masked_mean(earned_BT, mask_BT, steps),
        "ends": end_loss(found.ends_BT2, batch.ends_BT, mask_BT, steps),
    }
    weights = {"latents": config.latents_weight, "rewards": config.rewards_weight, "ends": config.ends_weight}
    losses = weighted(terms, weights)
    told = {**losses.terms, "latent_accuracy": masked_mean(right_BS, mask_BS, tokens).detach()}
    rows_B = row_means(told_BS, mask_BS) + row_means(earned_BT, mask_BT)
    return replace(losses, terms=told, rows_B=rows_B)


def actor_critic_loss(rollout: Rollout, config: DeltaActorConfig, kept: Tensor) -> Losses:
    """actions + value * values - entropy * entropy, means over `kept` steps of the whole batch (a scalar).

    actions: -log pi(a) (R - V') with the target's values V'; values: the critic's error about R, squared or a cross
    entropy. Steps behind an imagined end do not count. A rollout's mean sum of rewards is told beside the terms.
    """
    returns_NH, kept_NH = rollout.returns(config.gamma, config.lambda_), rollout.kept
    if config.values == "mean":
        values_NH = (rollout.critic_NHZ[..., 0] - returns_NH).square()
    else:
        values_NH = two_hot_errors(rollout.critic_NHZ, returns_NH, config.beyond, "return")
    each = {
        "actions": policy_errors(rollout.logits_NHA, rollout.actions_NH, returns_NH - rollout.targets_NH),
        "values": values_NH,
        "entropy": entropies(rollout.logits_NHA),
    }
    terms = {name: masked_mean(values, kept_NH, kept) for name, values in each.items()}
    return weighted(terms, {"actions": 1.0, "values": config.value, "entropy": -config.entropy})
