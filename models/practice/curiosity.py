"""An ensemble of heads that predict the next frame's tokens, and their disagreement as a reward.

Every head learns from rows of its own, so that heads agree where there was much to learn from and differ elsewhere.
Nothing is learned through them by what they read. Source: arXiv 2502.11537, section 2.2.

Shapes: B rows of a batch or N imagined ones, T blocks, K tokens a frame, D width, V vocabulary, M members.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Heads, each (..., D) -> (..., V)."""

    def __init__(self, heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def __len__(self) -> int:
        return len(self.heads)

    def shares(self, rows: int, first: int, count: int) -> list[slice]:
        """By member, its share of rows first .. first + rows of a batch of `count`: of the batch a contiguous part.

        Shares are as equal as they can be; a member may have none of these rows.
        """
        size = len(self.heads)
        edges = [min(max(-(-member * count // size) - first, 0), rows) for member in range(size + 1)]
        return [slice(start, stop) for start, stop in pairwise(edges)]

    def logits(self, latents_BTKD: Tensor, first: int, count: int) -> Tensor:
        """What each row's own member says (B, T, K, V); latents get no gradient."""
        shares = self.shares(len(latents_BTKD), first, count or len(latents_BTKD))
        pairs = zip(self.heads, shares, strict=True)
        return torch.cat([head(latents_BTKD[rows].detach()) for head, rows in pairs if rows.start < rows.stop])

    @torch.no_grad()
    def disagreement(self, latents: Tensor) -> Tensor:
        """Jensen-Shannon divergence (...) of all members' distributions for latents (..., D), in nats: >= 0.

        It is the entropy of their mean less the mean of their entropies.
        """
        mean, entropies = torch.zeros(()), torch.zeros(())
        for head in self.heads:
            log_probs = F.log_softmax(head(latents).float(), dim=-1)
            probs = log_probs.exp()
            mean = mean.to(probs) + probs / len(self.heads)
            entropies = entropies.to(probs) - (probs * log_probs).sum(-1) / len(self.heads)
        return torch.special.entr(mean).sum(-1) - entropies
