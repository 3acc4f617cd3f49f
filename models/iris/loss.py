"""IRIS's three objectives (arXiv 2209.00588, section 2 and appendix A).

A batch may be taken in parts: each divides its sums by the counts of the whole batch, so that totals and gradients of
the parts add up. Shapes: n frames, B segments or N rows, T steps, K tokens a frame, H imagined steps.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models.api import Batch, Losses
from models.iris.config import ActorCriticConfig, TokenizerWeights, WorldModelConfig
from models.iris.imagination import Rollout
from models.iris.world_model import Outputs
from models.losses.frames import commitment, motion_weight, reconstruction_l1, reconstruction_l2
from models.losses.returns import entropy, lambda_returns, policy_gradient, value_error
from models.losses.segments import end_loss, masked_mean, observation_errors, reward_errors, row_means
from models.tokenizers.vq import Reconstructed

Distance = Callable[[Tensor, Tensor], Tensor]
"""(frames, frames), each (n, C, H, W) in [0, 1] -> scalar"""


def tokenizer_loss(
    frames_nCHW: Tensor,
    out: Reconstructed,
    weights: TokenizerWeights,
    lpips: Distance | None = None,
    returns_n: Tensor | None = None,
    background_CHW: Tensor | None = None,
) -> Losses:
    """Weighted sum of l1, mse, commitment, lpips and value, each a mean over frames; terms of weight 0 are not there.

    frames: float in [0, 1]. out: what the tokenizer makes of them. Without `lpips` that term is left out. returns: what
    each frame's episode still brought, discounted. Raises ValueError where a value is to be learned and they lack.
    background: the game's mean frame, where l1 favours what is off it (`motion_gain`).
    """
    x, x_hat, encoded = frames_nCHW, out.frames, out.encoded
    terms = {}
    if weights.l1:
        if background_CHW is None:
            terms["l1"] = reconstruction_l1(x, x_hat)
        else:  # a frame's weights have the mean 1 + gain, so that parts of a batch add up without counting it
            weight_nCHW = motion_weight(x, background_CHW, weights.motion_gain)
            terms["l1"] = reconstruction_l1(x, x_hat, weight_nCHW, x.new_tensor(1 + weights.motion_gain))
    if weights.mse:
        terms["mse"] = reconstruction_l2(x, x_hat)
    if weights.commitment:
        terms["commitment"] = commitment(encoded.z, encoded.z_quantized, weights.encoder)
    if weights.lpips and lpips is not None:
        terms["lpips"] = lpips(x, x_hat)
    if weights.value:
        if returns_n is None or out.values is None:
            raise ValueError("A value is learned from returns by a critic: give the batch returns, and value_layers")
        terms["value"] = value_error(out.values, returns_n.float() / weights.returns_scale)
    return weighted(terms, {name: getattr(weights, name) for name in terms})


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


def actor_critic_loss(rollout: Rollout, config: ActorCriticConfig) -> Losses:
    """actions + value * values - entropy * entropy, means over rows and the first H - 1 steps.

    The value of the last state is where returns begin, so its own step is not learned from. Steps after an imagined end
    count like others, as in the original.
    """
    returns_NH = lambda_returns(
        rollout.rewards_NH, rollout.ends_NH, rollout.values_NH.detach(), config.gamma, config.lambda_
    )
    learned = slice(None, -1)
    logits_NHA, values_NH = rollout.logits_NHA[:, learned], rollout.values_NH[:, learned]
    advantages_NH = returns_NH[:, learned] - values_NH
    terms = {
        "actions": policy_gradient(logits_NHA, rollout.actions_NH[:, learned], advantages_NH),
        "values": value_error(values_NH, returns_NH[:, learned]),
        "entropy": entropy(logits_NHA),
    }
    return weighted(terms, {"actions": 1.0, "values": config.value, "entropy": -config.entropy})


def weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> Losses:
    """The terms' weighted sum, and the terms."""
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return Losses(total, {name: term.detach() for name, term in terms.items()})


def share(losses: Losses, part: float) -> Losses:
    """What means over a part of a batch contribute to the means over all of it."""
    return replace(losses, total=losses.total * part, terms={name: term * part for name, term in losses.terms.items()})
