"""Losses of segments as pure functions: cross entropies of a token world model, and learning of action values.

Sources: the world model's losses (Micheli et al. 2023, arXiv 2209.00588, section 2.3); temporal differences (Mnih et
al. 2015); the conservative penalty, `overestimation - data_value` (Kumar et al. 2020, 2006.04779); random ensemble
mixtures, where each step trains another convex combination of the members (Agarwal et al. 2020, 1907.04543); the
categorical distribution of returns (Bellemare et al. 2017, 1707.06887).

Shapes: B segments, T steps, K tokens a frame, V vocabulary, A actions, Q members, Z atoms; `...` any leading axes.
Everything is computed in float32, whatever the inputs' type. Means are a `masked_mean` over real steps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean of `values` where `mask` (bool, same shape) is True; 0 where it is True nowhere. Returns a scalar.

    `count`: how many entries the whole batch has, of which this is a part; the parts' results then add up to its mean.

    What stands at masked-out places does not matter, be it infinite or NaN. Shapes are static: nothing is selected.
    Raises ValueError where shapes differ.
    """
    if values.shape != mask.shape:
        raise ValueError(f"Values {tuple(values.shape)} and mask {tuple(mask.shape)} differ in shape")
    return values.masked_fill(~mask, 0.0).sum() / (mask.sum() if count is None else count.to(values.dtype)).clamp(min=1)


# ---- cross entropies of a world model ----


def observation_loss(
    logits_BSV: Tensor, tokens_BTK: Tensor, mask_BT: Tensor, count: Tensor | None = None, ahead: int = 1
) -> Tensor:
    """Cross entropy of the observation token that lies `ahead`: see `observation_errors`, of which it is the mean."""
    return masked_mean(*observation_errors(logits_BSV, tokens_BTK, mask_BT, ahead), count)


def observation_errors(
    logits_BSV: Tensor, tokens_BTK: Tensor, mask_BT: Tensor, ahead: int = 1
) -> tuple[Tensor, Tensor]:
    """Cross entropies of the observation tokens that lie `ahead` (the next one, or the next frame's in the same place).

    logits_BSV: (B, T * K, V); entry s predicts observation token s + ahead of the segment, so its first `ahead` tokens
    have no prediction and as many last entries no target; 0: every entry predicts its own token. tokens_BTK: long.
    Tokens of padded steps are ignored.
    Returns (B, T * K - ahead) float32, and bool of those that count. Raises ValueError where the shapes do not fit.
    """
    batch, steps, per_frame = tokens_BTK.shape
    if logits_BSV.shape[:2] != (batch, steps * per_frame):
        raise ValueError(
            f"Observation logits {tuple(logits_BSV.shape)} do not fit tokens {tuple(tokens_BTK.shape)}: "
            f"the first two axes must be ({batch}, {steps * per_frame})"
        )
    mask_BS = mask_BT[..., None].expand_as(tokens_BTK).flatten(1)[:, ahead:]
    return cross_entropies(logits_BSV[:, : steps * per_frame - ahead], tokens_BTK.flatten(1)[:, ahead:]), mask_BS


def reward_loss(logits_BT3: Tensor, rewards_BT: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross entropy of the reward's sign: the mean of `reward_errors`."""
    return masked_mean(reward_errors(logits_BT3, rewards_BT), mask_BT, count)


def reward_errors(logits_BT3: Tensor, rewards_BT: Tensor) -> Tensor:
    """Cross entropies (B, T) of the reward's sign, classes -1, 0, 1 in that order."""
    return cross_entropies(logits_BT3, rewards_BT.sign().long() + 1)


def end_loss(logits_BT2: Tensor, ends_BT: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross entropy of the end flag, classes 0 and 1."""
    return masked_mean(cross_entropies(logits_BT2, ends_BT.long()), mask_BT, count)


def row_means(errors_BS: Tensor, mask_BS: Tensor) -> Tensor:
    """(B,) detached: of each segment the mean error where `mask` is True; 0 where it is True nowhere."""
    kept_BS = errors_BS.detach().masked_fill(~mask_BS, 0.0)
    return kept_BS.sum(1) / mask_BS.sum(1).clamp(min=1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:  # (B, S, V), (B, S) -> (B, S)
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)


# ---- temporal differences of a scalar Q ----
def bellman_value(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """r + c Q' with a discount c for each, 0 behind an end. All (...)."""
    return rewards.float() + discounts * next_values


def half_squared_error(target: Tensor, predicted: Tensor) -> Tensor:
    """(target - predicted)^2 / 2. All (...)."""
    return 0.5 * (target - predicted).square()


# ---- an expectile ----
def expectile_weights(targets: Tensor, predicted: Tensor, expectile: float) -> Tensor:
    """2 |tau - 1(target < prediction)|: by which the error of each target counts (Kostrikov et al. 2021, 2110.06169).

    What minimises so weighted squared errors is the targets' expectile, and so is the mean of the distribution that
    minimises so weighted cross entropies. All (...); tau 0.5 weighs all alike.
    """
    return 2 * torch.where(targets < predicted, 1 - expectile, expectile).float()


# ---- the two sides of the conservative penalty ----
def overestimation(values_BTA: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean over real steps of logsumexp over all A actions of Q, legal or not: what the penalty pushes down."""
    return masked_mean(values_BTA.float().logsumexp(-1), mask_BT, count)


def data_value(values_BTA: Tensor, actions_BT: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean over the data's steps of Q of the taken action: what the penalty lifts. actions_BT: long.

    `mask_BT` leaves out padding, and in COMBO (Yu et al. 2021, 2102.08363) what a model imagined.
    """
    return masked_mean(values_BTA.float().gather(-1, actions_BT[..., None])[..., 0], mask_BT, count)


# ---- random mixtures of an ensemble ----
def mixture_weights(members: int, generator: torch.Generator) -> Tensor:
    """Weights (Q,) float32 of one step, drawn from `generator`, which lives on the CPU."""
    return normalised(torch.rand(members, generator=generator))


def normalised(draws_Q: Tensor) -> Tensor:
    """Uniform draws (Q,) as the weights of a mixture: each over their sum (equation 5)."""
    return draws_Q / draws_Q.sum()


def weighted_mean(values_Q: Tensor, weights_Q: Tensor | None) -> Tensor:
    """sum_q w_q x_q, or the plain mean without weights: (Q, ...) -> (...)."""
    if weights_Q is None:
        return values_Q.mean(0)
    return torch.tensordot(weights_Q.to(values_Q), values_Q, dims=1)


# ---- a categorical Q (C51) ----
def c51_support(value_min: float, value_max: float, atoms: int, device: torch.device | None = None) -> Tensor:
    """The atoms z_j: (Z,) float32 from value_min to value_max in equal steps."""
    return torch.linspace(value_min, value_max, atoms, device=device)


def c51_mixture(logits_QZ: Tensor, weights_Q: Tensor | None = None) -> Tensor:
    """Mean over an ensemble's members *as probabilities*: logits (Q, ..., Z) and weights (Q,) -> (..., Z)."""
    return weighted_mean(logits_QZ.float().softmax(-1), weights_Q)


def c51_expectation(probs_Z: Tensor, atoms_Z: Tensor) -> Tensor:
    """sum_j p_j z_j: (..., Z) -> (...)."""
    return (probs_Z * atoms_Z).sum(-1)  # no matrix product: autocast would round it to bfloat16


def c51_project(target_support_BZ: Tensor, probs_BZ: Tensor, atoms_Z: Tensor) -> Tensor:
    """A distribution on moved atoms, put back on the fixed ones: (..., Z) -> (..., Z).

    Atom j gets sum_k p_k clamp(1 - |clip(target_k) - z_j| / dz, 0, 1), clip to [z_1, z_Z] (equation 7). What lies
    beyond the support ends on its nearest atom, so the result sums to what `probs_BZ` sums to.
    """
    spacing = atoms_Z[1] - atoms_Z[0]
    clipped_BZ = target_support_BZ.clamp(atoms_Z[0], atoms_Z[-1])
    share_BZZ = (1 - (clipped_BZ[..., None, :] - atoms_Z[:, None]).abs() / spacing).clamp(0, 1)  # (..., to, from)
    return (share_BZZ * probs_BZ[..., None, :]).sum(-1)


def c51_bellman_target(rewards: Tensor, discounts: Tensor, next_probs_Z: Tensor, atoms_Z: Tensor) -> Tensor:
    """Distribution of r + c Z' on the atoms, with a discount c for each, 0 behind an end.

    rewards, discounts: (...). next_probs_Z: (..., Z) of the chosen action where they lead. Returns (..., Z).
    """
    moved_Z = rewards[..., None].float() + discounts[..., None] * atoms_Z
    return c51_project(moved_Z, next_probs_Z, atoms_Z)


def c51_of_value(values: Tensor, atoms_Z: Tensor) -> Tensor:
    """The distribution (..., Z) on at most two neighbouring atoms whose mean a value (...) within their range is."""
    return c51_project(values[..., None], torch.ones_like(values)[..., None], atoms_Z)


def c51_cross_entropy(target_probs_Z: Tensor, predicted_probs_Z: Tensor) -> Tensor:
    """-sum_j target_j log(predicted_j + 1e-8): (..., Z) -> (...)."""
    return -(target_probs_Z * (predicted_probs_Z + 1e-8).log()).sum(-1)
