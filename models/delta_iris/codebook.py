"""Delta-IRIS's codebook: latents are told by the direction of the nearest code, which follows them without gradient.

A code moves a little towards the mean direction of those that chose it. How often each is chosen is followed too; where
few codes share the work, the seldom used ones are put where latents are. Source: arXiv 2406.19320, appendix A.1, and
the order of its code: a batch is told by the codes as they were; then these move, use is counted, the entropy of use
decides about revival, and all codes are brought to length 1.

Shapes: n latents, V codes of E numbers, X expired codes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.api import stream
from models.tokenizers.codebook import cluster_sums

COLLAPSED = 1.0  # bits of entropy below which codes are revived whatever the limit says
SPARE_BITS = 2.0  # revival is for entropies this far below that of equal use
SELDOM = 0.1  # of equal use: below it a code has expired


class Told(NamedTuple):
    """Unit latents (n, E), the codes that they are told by (n, E) and their numbers (n,)."""

    latents_nE: Tensor
    codes_nE: Tensor
    tokens_n: Tensor

    @property
    def straight_through(self) -> Tensor:
        """The codes as values with the latents' gradient: what is decoded."""
        return self.latents_nE + (self.codes_nE - self.latents_nE).detach()


class CosineCodebook(nn.Module):
    """`revive_updates`: how many times it moves with revival (-1: always). Draws depend on `seed` and the count alone.

    gather: this process's rows -> those of all processes, in order.
    """

    gather: Callable[[Tensor], Tensor] = staticmethod(lambda rows: rows)
    codebook: Tensor
    codewords_freqs: Tensor
    num_codebook_updates: Tensor

    def __init__(
        self,
        size: int,
        width: int,
        generator: torch.Generator,
        decay: float = 0.99,
        usage_decay: float = 0.98,
        revive_updates: int = -1,
    ) -> None:
        super().__init__()
        self.decay, self.usage_decay, self.revive_updates = decay, usage_decay, revive_updates
        self.seed = generator.initial_seed()
        codes_VE = torch.empty(size, width).uniform_(-1 / size, 1 / size, generator=generator)
        self.register_buffer("num_codebook_updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("codebook", codes_VE)
        self.register_buffer("codewords_freqs", torch.full((size,), 1 / size))

    def forward(self, latents_nE: Tensor) -> Told:
        """In float32, whatever autocast is on: the token of a change must not depend on it."""
        with torch.autocast(latents_nE.device.type, enabled=False):
            unit_nE = F.normalize(latents_nE.float(), dim=-1)
            tokens_n = (unit_nE.detach() @ self.codebook.T).argmax(-1)
            return Told(unit_nE, F.embedding(tokens_n, self.codebook), tokens_n)

    @torch.no_grad()
    def follow(self, latents_nE: Tensor, tokens_n: Tensor) -> int:
        """Move the codes after a batch of unit latents that these told; returns how many codes were revived."""
        latents_nE, tokens_n = self.gather(latents_nE.detach()), self.gather(tokens_n)
        if not len(latents_nE):
            return 0
        self.move(latents_nE, tokens_n)
        revived = 0
        if self.wants_revival():
            expired_X = self.expired()
            draws = stream(self.seed, "revival", int(self.num_codebook_updates))
            orders = (torch.randperm(count, generator=draws) for count in (len(expired_X), len(latents_nE)))
            order_X, order_n = (order.to(latents_nE.device) for order in orders)
            revived = self.revive(expired_X[order_X], latents_nE[order_n])
        self.finish()
        return revived

    def move(self, latents_nE: Tensor, tokens_n: Tensor) -> None:
        """Codes towards the mean directions of their latents, use towards that of this batch."""
        counts_V, sums_VE = cluster_sums(latents_nE, tokens_n, len(self.codebook))
        means_VE = F.normalize(sums_VE / counts_V.clamp(min=1)[:, None], dim=1)
        self.codebook.lerp_(means_VE, 1 - self.decay)
        self.codewords_freqs.lerp_(counts_V / counts_V.sum(), 1 - self.usage_decay)

    def entropy(self) -> float:
        """Of use, in bits: two to its power codes would be used as much if equally."""
        used = self.codewords_freqs[self.codewords_freqs > 0]
        return float(-(used * used.log2()).sum())

    def wants_revival(self) -> bool:
        """Whether seldom used codes are to be revived now."""
        entropy, allowed = self.entropy(), self.revive_updates
        able = entropy < COLLAPSED or allowed < 0 or int(self.num_codebook_updates) < allowed
        return able and entropy < math.log2(len(self.codebook)) - SPARE_BITS

    def expired(self) -> Tensor:
        """Numbers (X,) of codes that are used less than a tenth of equal use."""
        return (self.codewords_freqs < SELDOM / len(self.codebook)).nonzero()[:, 0]

    def revive(self, expired_X: Tensor, latents_nE: Tensor) -> int:
        """Put codes where latents are, in these orders, as if used equally; returns how many."""
        count = min(len(expired_X), len(latents_nE))
        self.codebook[expired_X[:count]] = latents_nE[:count].to(self.codebook.dtype)
        self.codewords_freqs[expired_X[:count]] = 1 / len(self.codebook)
        return count

    def finish(self) -> None:
        """All codes to length 1, and the count of updates."""
        self.codebook.copy_(F.normalize(self.codebook, dim=1))
        self.num_codebook_updates += 1
