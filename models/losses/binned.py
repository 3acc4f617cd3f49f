"""Numbers as distributions over bins, so that a regression is learned as a classification: pure functions.

A reward or a return x is squeezed by `symlog`, turned into weights of bins (`hl_gauss` or `two_hot`), learned by
`soft_cross_entropy` and read back by `expected_value`. Sources: symlog and two-hot targets of DreamerV3 (Hafner et al.
2023, arXiv 2301.04104), as Delta-IRIS takes them (255 points on [-20, 20]); HL-Gauss (Imani and White 2018; Farebrother
et al. 2024, arXiv 2403.03950), as Simulus takes it (129 bins, sigma of 0.75 bins). All float32.
Shapes: ... any leading ones, P points or bins, P + 1 edges.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TWO_HOT_MARGIN = 1e-5  # what a two-hot target stays below the last point, so that a point above it is there


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|): identity near 0, a logarithm far from it. Any shape; float32."""
    return x.float().sign() * x.float().abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """sign(x) (exp(|x|) - 1): the inverse of `symlog`. Any shape; float32."""
    return x.float().sign() * x.float().abs().expm1()


def bin_centres(edges: Tensor) -> Tensor:
    """Middles (P,) of the bins between increasing edges (P + 1,). ValueError where there is no bin or no order."""
    _check_increasing(edges, "edges")
    return (edges[1:] + edges[:-1]) / 2


def hl_gauss(x: Tensor, edges: Tensor, sigma: float = 0.75, clamp: bool = True) -> Tensor:
    """Mass that a normal distribution around symlog(x) gives each bin, of what it gives all: float32 (..., P).

    x: raw numbers (...). edges: (P + 1,) increasing, in symlog space, with bins of one width. sigma: standard deviation
    in bins. clamp: a symlog(x) beyond the outer edges is taken to them; the original leaves it, and a distribution that
    lies outside altogether has no mass to divide by (nan).
    Raises ValueError where the edges don't increase or sigma is not above 0.
    """
    _check_increasing(edges, "edges")
    if not sigma > 0:
        raise ValueError(f"A sigma of {sigma} bins gives no distribution: it must be above 0")
    squeezed = symlog(x)
    if clamp:
        squeezed = squeezed.clamp(edges[0], edges[-1])
    width = sigma * (edges[1] - edges[0])
    below = torch.special.erf((edges - squeezed.unsqueeze(-1)) / (math.sqrt(2) * width))
    return below.diff(dim=-1) / (below[..., -1:] - below[..., :1])


def two_hot(x: Tensor, points: Tensor) -> Tensor:
    """Weights of the two points next to symlog(x), linear in its distance to them: float32 (..., P), summing to 1.

    x: raw numbers (...). points: (P,) increasing, in symlog space. symlog(x) is clamped to [first, last - 1e-5]; at the
    first point itself that point has all the weight. Raises ValueError where the points don't increase.
    """
    _check_increasing(points, "points")
    squeezed = symlog(x).clamp(points[0], points[-1] - TWO_HOT_MARGIN)
    lower = (torch.bucketize(squeezed, points, right=True) - 1).clamp(0, len(points) - 2)
    upper_weight = ((squeezed - points[lower]) / (points[lower + 1] - points[lower])).unsqueeze(-1)
    weights = torch.zeros(*x.shape, len(points), device=x.device)
    weights.scatter_(-1, lower.unsqueeze(-1), 1 - upper_weight)
    return weights.scatter_(-1, lower.unsqueeze(-1) + 1, upper_weight)


def expected_value(logits: Tensor, points: Tensor) -> Tensor:
    """symexp of the mean point under softmax(logits): float32 (...), in the unit of what was squeezed.

    logits: (..., P). points: (P,) in symlog space: the middles of HL-Gauss's bins, the points of two-hot targets.
    Raises ValueError where their numbers differ.
    """
    if logits.shape[-1:] != points.shape:
        raise ValueError(f"Logits of {logits.shape[-1]} bins cannot be read by {len(points)} points")
    return symexp((logits.float().softmax(-1) * points).sum(-1))


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_p t_p log softmax(logits)_p of each: float32 (...). No gradient passes into the targets (..., P).

    Raises ValueError where shapes differ.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"Logits {tuple(logits.shape)} and targets {tuple(targets.shape)} differ in shape")
    return -(targets.detach() * F.log_softmax(logits.float(), dim=-1)).sum(-1)


def _check_increasing(marks: Tensor, what: str) -> None:
    ordered = marks.device.type != "cpu" or bool((marks.diff() > 0).all())  # a GPU would have to be waited for
    if marks.ndim != 1 or len(marks) < 2 or not ordered:
        raise ValueError(f"Bins of shape {tuple(marks.shape)} are none: their {what} must be at least 2, and increase")
