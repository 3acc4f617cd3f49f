"""Random ensemble mixtures: each step trains another convex combination of members (Agarwal et al. 2020, 1907.04543).

Shapes: Q members; `...` any other axes.
"""

import torch
from torch import Tensor


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
