"""What values and rewards are made of where they are learned as classes, and how large returns have been.

`Bins` turns a head's logits into numbers and numbers into what the head is to say (HL-Gauss). `ReturnScale` is by what
advantages are divided: half the distance of two quantiles of the returns of late, at least 1. Sources: arXiv 2403.03950
and 2502.11537 (Simulus), whose numbers are the defaults.

Shapes: `...` any leading axes, Z bins, N rows, H steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.losses.binned import bin_centres, expected_value, hl_gauss, soft_cross_entropy

LOW, HIGH = 0.025, 0.975  # quantiles of returns
BIAS = -0.2  # of a fresh head, times a bin's distance from 0: it expects small numbers


class Bins(nn.Module):
    """`count` bins of one width on [-reach, reach] in symlog space. It has no weights and nothing to save."""

    edges: Tensor
    centres: Tensor

    def __init__(self, count: int, reach: float) -> None:
        super().__init__()
        edges = torch.linspace(-reach, reach, count + 1)
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("centres", bin_centres(edges), persistent=False)

    def value(self, logits: Tensor) -> Tensor:
        """What logits (..., Z) expect: float32 (...)."""
        return expected_value(logits, self.centres)

    def errors(self, logits: Tensor, x: Tensor) -> Tensor:
        """Cross entropy (...) of logits (..., Z) and what they should say of numbers x (...)."""
        return soft_cross_entropy(logits, hl_gauss(x.detach(), self.edges))

    @torch.no_grad()
    def begin(self, head: nn.Linear) -> None:
        """Let a fresh head expect small numbers."""
        head.bias.copy_(BIAS * self.centres.abs())


class ReturnScale(nn.Module):
    """Remembers the newest `capacity` returns, in a ring; they are saved with the network that it is a part of.

    `gather` turns what this process sees into what all see, in order, so that all ranks remember the same.
    """

    gather: Callable[[Tensor], Tensor] = staticmethod(lambda rows_NH: rows_NH)
    returns: Tensor
    seen: Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.register_buffer("returns", torch.zeros(capacity))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # how many there were, ever

    @torch.no_grad()
    def forward(self, returns_NH: Tensor) -> Tensor:
        """max(1, (high - low) / 2) of these returns and those remembered: a scalar. They are remembered in training."""
        new = self.gather(returns_NH.float()).flatten()
        low, high = self.quantiles(new)
        if self.training:
            self.remember(new)
        return ((high - low) / 2).clamp(min=1.0)

    def quantiles(self, new: Tensor) -> Tensor:
        """Those at LOW and HIGH (2,) of new returns and those remembered."""
        filled = min(int(self.seen), len(self.returns))
        marks = torch.tensor([LOW, HIGH], device=new.device)
        return torch.cat([self.returns[:filled], new]).quantile(marks)

    def remember(self, new: Tensor) -> None:
        """Put new returns in the place of the oldest; of more than there is room for, the last."""
        kept, size = new[-len(self.returns) :], len(self.returns)
        first = self.seen + len(new) - len(kept)
        self.returns[(first + torch.arange(len(kept), device=new.device)) % size] = kept
        self.seen += len(new)
