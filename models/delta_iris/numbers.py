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

    What is no number loses NaN, so that training stops where all losses are looked at. Raises ValueError where one lies
    beyond the points and `beyond` is "error".
    """
    known = numbers.isfinite()
    squeezed = symlog(numbers.masked_fill(~known, 0.0)).abs()
    if beyond == "error" and bool((squeezed > REACH).any()):
        raise ValueError(
            f"A {what} of {float(numbers[squeezed > REACH][0]):g} is beyond what two-hot numbers tell, +-4.85e8: scale "
            "the rewards, or set beyond=clamp"
        )
    errors = soft_cross_entropy(logits, two_hot(numbers.masked_fill(~known, 0.0), points(logits.device)))
    return errors.masked_fill(~known, torch.nan)
