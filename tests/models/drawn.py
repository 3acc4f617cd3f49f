"""Whether classes were drawn from the distributions that a network says."""

import numpy as np
import torch
from scipy.stats import chisquare
from torch import Tensor

LEAST = 1e-4  # probability, of draws as they should be, that one test with its fixed seed fails


def chance_of(probs_MV: Tensor, classes_M: Tensor, bins: int = 20) -> float:
    """The p-value of classes of which row m's has its own distribution.

    A class stands for an interval as long as it is likely. A random place in it is uniform in [0, 1) if and only if
    classes have their probabilities, so that bins of places are equally likely: Pearson's chi-square is exact.
    """
    probs_MV = probs_MV.double()
    until_M = probs_MV.cumsum(1).gather(1, classes_M[:, None])[:, 0]
    length_M = probs_MV.gather(1, classes_M[:, None])[:, 0]
    within_M = torch.rand(len(classes_M), generator=torch.Generator().manual_seed(17), dtype=torch.float64)
    places_M = (until_M - length_M * within_M).clamp(0, 1 - 1e-12).numpy()
    return float(chisquare(np.bincount((places_M * bins).astype(int), minlength=bins)).pvalue)
