"""Categorical (C51) temporal-difference learning as pure functions (Bellemare et al. 2017, arXiv 1707.06887).

Shapes: Z atoms; `...` any leading axes. Everything is computed in float32, whatever the logits' type.
"""

import torch
from torch import Tensor

from models.losses.rem import weighted_mean


def support(value_min: float, value_max: float, atoms: int, device: torch.device | None = None) -> Tensor:
    """The atoms z_j: (Z,) float32 from value_min to value_max in equal steps."""
    return torch.linspace(value_min, value_max, atoms, device=device)


def mixture(logits_QZ: Tensor, weights_Q: Tensor | None = None) -> Tensor:
    """Mean over an ensemble's members *as probabilities*: logits (Q, ..., Z) and weights (Q,) -> (..., Z)."""
    return weighted_mean(logits_QZ.float().softmax(-1), weights_Q)


def expectation(probs_Z: Tensor, atoms_Z: Tensor) -> Tensor:
    """sum_j p_j z_j: (..., Z) -> (...)."""
    return (probs_Z * atoms_Z).sum(-1)  # no matrix product: autocast would round it to bfloat16


def project(target_support_BZ: Tensor, probs_BZ: Tensor, atoms_Z: Tensor) -> Tensor:
    """A distribution on moved atoms, put back on the fixed ones: (..., Z) -> (..., Z).

    Atom j gets sum_k p_k clamp(1 - |clip(target_k) - z_j| / dz, 0, 1), clip to [z_1, z_Z] (equation 7). What lies
    beyond the support ends on its nearest atom, so the result sums to what `probs_BZ` sums to.
    """
    spacing = atoms_Z[1] - atoms_Z[0]
    clipped_BZ = target_support_BZ.clamp(atoms_Z[0], atoms_Z[-1])
    share_BZZ = (1 - (clipped_BZ[..., None, :] - atoms_Z[:, None]).abs() / spacing).clamp(0, 1)  # (..., to, from)
    return (share_BZZ * probs_BZ[..., None, :]).sum(-1)


def bellman_target(rewards: Tensor, continues: Tensor, next_probs_Z: Tensor, atoms_Z: Tensor, gamma: float) -> Tensor:
    """Distribution of r + gamma Z' on the atoms, of r alone where `continues` (bool) is False.

    rewards, continues: (...). next_probs_Z: (..., Z) of the next step's chosen action. Returns (..., Z).
    """
    moved_Z = rewards[..., None].float() + gamma * continues[..., None] * atoms_Z
    return project(moved_Z, next_probs_Z, atoms_Z)


def cross_entropy(target_probs_Z: Tensor, predicted_probs_Z: Tensor) -> Tensor:
    """-sum_j target_j log(predicted_j + 1e-8): (..., Z) -> (...)."""
    return -(target_probs_Z * (predicted_probs_Z + 1e-8).log()).sum(-1)
