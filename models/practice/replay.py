"""Prioritised replay in numbers: how many segments of a batch are drawn by what they last lost, and how likely each is.

Source: arXiv 2502.11537 (Simulus), section 2.3, with its code: a share of a batch is drawn one by one from the softmax
of losses, without replacement; the rest uniformly of the others. Imports no torch.
"""

import math
from itertools import permutations

import numpy as np
from numpy.typing import NDArray


def prioritised(share: float, count: int, up: bool = False) -> int:
    """How many of `count` are drawn by their losses: the nearest number to a share, or the next one up.

    Upwards it is the original's ceil((1 - uniform) count) in floating point, where 1 - 0.7 is a little more than 0.3:
    of 10 segments 4, of 20 7.
    """
    return math.ceil((1 - (1 - share)) * count) if up else round(share * count)


def softmax(losses_N: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities (N,) of the first draw."""
    powers_N = np.exp(losses_N.astype(np.float64) - losses_N.max())
    return powers_N / powers_N.sum()


def inclusion(losses_N: NDArray[np.floating], count: int, by_losses: int) -> NDArray[np.float64]:
    """How likely each of N segments is in a batch of `count`: (N,). All orders of the first draws are summed.

    It takes N! / (N - by_losses)! terms: for tests. Raises ValueError where more are to be drawn than there are.
    """
    if not 0 <= by_losses <= count <= len(losses_N):
        raise ValueError(f"{count} of {len(losses_N)} segments, {by_losses} by losses, cannot be drawn without repeat")
    chance_N, found_N = softmax(losses_N), np.zeros(len(losses_N))
    for order in permutations(range(len(chance_N)), by_losses):
        term, left = 1.0, 1.0
        for row in order:
            term *= chance_N[row] / left
            left -= chance_N[row]
        found_N[list(order)] += term
    return found_N + (1 - found_N) * (count - by_losses) / (len(losses_N) - by_losses)
