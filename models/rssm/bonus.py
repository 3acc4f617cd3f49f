"""What is paid for what is new: how far a stretch of states lies from those seen lately (APV).

Source: Seo et al., arXiv 2203.13880, section 4.2 and its code. Shapes: B sequences, T steps, Z numbers of a feature, W
of a projection, Q remembered rows, M = T - window + 1 stretches.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.rssm.config import BonusConfig


class StreamNorm(nn.Module):
    """Divides by a mean size that follows what it sees; momentum 1 leaves it at 1, and numbers as they are."""

    mag: Tensor

    def __init__(self, momentum: float = 1.0, scale: float = 1.0, eps: float = 1e-8) -> None:
        super().__init__()
        self.momentum, self.scale, self.eps = momentum, scale, eps
        self.register_buffer("mag", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def follow(self, numbers: Tensor) -> None:
        """Towards their mean size."""
        self.mag.lerp_(numbers.abs().mean().double(), 1 - self.momentum)

    def forward(self, numbers: Tensor) -> Tensor:
        """The same shape, divided."""
        return numbers / (self.mag + self.eps).to(numbers.dtype) * self.scale


class Paid(NamedTuple):
    """Distances (B, M) to what was seen lately, and the bonus (B, M) that is made of them."""

    distances_BM: Tensor
    bonus_BM: Tensor


class Bonus(nn.Module):
    """Remembers projected stretches, newest first, and pays for distance from them. `filled` rows are real."""

    projection: Tensor
    queue: Tensor
    filled: Tensor

    def __init__(self, config: BonusConfig, feature: int, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("projection", torch.randn(feature, config.width, generator=generator) / config.width)
        self.register_buffer("queue", torch.zeros(config.queue, config.width))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.norm = StreamNorm(config.momentum, eps=config.eps)

    @torch.no_grad()
    def forward(self, features_BTZ: Tensor) -> Paid:
        """The bonus of stretches that begin at each step; they are remembered first, so that each is its own nearest.

        Raises ValueError for sequences shorter than a stretch.
        """
        config = self.config
        if features_BTZ.shape[1] < config.window:
            raise ValueError(
                f"Segments of {features_BTZ.shape[1]} steps have no stretch of bonus.window {config.window}: lower it"
            )
        means_BMZ = features_BTZ.float().unfold(1, config.window, 1).mean(-1)
        rows_BMW = means_BMZ @ self.projection
        self._remember(rows_BMW.flatten(0, 1))
        known = self.queue[: int(self.filled)]
        # Not by products, whose rounding would put a row at some distance from itself.
        apart = torch.cdist(rows_BMW.flatten(0, 1), known, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = apart.topk(min(config.neighbours, len(known)), largest=False).values
        distances_BM = nearest.mean(-1).view(rows_BMW.shape[:2])
        self.norm.follow(distances_BM)
        return Paid(distances_BM, config.weight * self.norm(distances_BM))

    def _remember(self, rows: Tensor) -> None:
        kept = torch.cat([rows, self.queue])[: len(self.queue)]
        self.queue.copy_(kept)
        self.filled.add_(len(rows)).clamp_(max=len(self.queue))
