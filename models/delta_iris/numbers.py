"""Rewards and values as Delta-IRIS learns them: one number, a sign of three, or 255 points of symlog (two-hot).

A number beyond the outermost points, +-(e^20 - 1), is taken to them or is an error, as the config says.
Source: arXiv 2406.19320, appendix A.2, after arXiv 2301.04104.
"""

import torch
from torch import Tensor

from models.delta_iris.config import POINTS, REACH
from models.losses.binned import soft_cross_entropy, symlog, two_hot


def points(device: torch.device | None = None) -> Tensor:
    """(255,) float32, evenly from -20 to 20."""
    return torch.linspace(-REACH, REACH, POINTS, device=device)


def two_hot_errors(logits: Tensor, numbers: Tensor, beyond: str, what: str) -> Tensor:
    """Cross entropies (...) of logits (..., 255) with the two-hot weights of numbers (...).

    Raises ValueError where a number is none, and where it lies beyond the points and `beyond` is "error".
    """
    squeezed = symlog(numbers).abs()
    if not bool(squeezed.isfinite().all()):
        raise ValueError(f"A {what} of {float(numbers[~squeezed.isfinite()][0])} cannot be learned: mend the data")
    if beyond == "error" and bool((squeezed > REACH).any()):
        raise ValueError(
            f"A {what} of {float(numbers[squeezed > REACH][0]):g} is beyond what two-hot numbers tell, +-4.85e8: scale "
            "the rewards, or set beyond=clamp"
        )
    return soft_cross_entropy(logits, two_hot(numbers, points(logits.device)))
