"""Codebooks: nearest-neighbour quantisers, one trained by gradient, one by running means of the latents it is given.

Shapes: B frames, E embed_dim, h x w grid, K = h*w tokens a frame, N = B*K latents, V vocabulary.
Distances are always float32: under bfloat16 two near codes tie and the token of a frame would depend on the machine.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.tokenizers.config import TokenizerConfig

DISTANCES_AT_ONCE = 1 << 24  # entries of one block of the N x V distance matrix: 64 MiB of float32
KMEANS_ROUNDS = 10


@dataclass(frozen=True)
class Encoded:
    """Latents before and after quantisation, and the tokens that name them."""

    z: Tensor  # (B, E, h, w) as compared with the codes: of unit norm when the codebook is cosine
    z_quantized: Tensor  # (B, E, h, w) the nearest codes; their gradient reaches the codebook, not the encoder
    tokens_BK: Tensor  # (B, K) int64, row by row over the grid

    @property
    def straight_through(self) -> Tensor:
        """The codes as values with the gradient of `z` (van den Oord et al. 2017, section 3.2): what is decoded."""
        return self.z + (self.z_quantized - self.z).detach()


def nearest(latents_NE: Tensor, codes_VE: Tensor) -> tuple[Tensor, Tensor]:
    """Index (N,) int64 of each latent's nearest code in squared L2 (ties: the lowest), and that distance (N,) >= 0."""
    with torch.no_grad(), torch.autocast(latents_NE.device.type, enabled=False):
        codes_VE = codes_VE.float()
        code_norms_V, scaled_VE = codes_VE.square().sum(1), -2 * codes_VE
        indices, distances = [], []
        for rows_NE in latents_NE.float().split(max(1, DISTANCES_AT_ONCE // len(codes_VE))):
            distances_NV = F.linear(rows_NE, scaled_VE, code_norms_V)  # less |z|^2, the same for all codes
            best = distances_NV.min(1)
            indices.append(best.indices)
            distances.append((best.values + rows_NE.square().sum(1)).clamp(min=0))
        return torch.cat(indices), torch.cat(distances)


class Codebook(nn.Module):
    """What both codebooks share: `weight` (V, E) and the look-up. Subclasses say how `weight` is learned."""

    weight: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.cosine = config.cosine

    def codes(self) -> Tensor:
        """The codes as they are compared and decoded, float32 (V, E)."""
        return F.normalize(self.weight, dim=1) if self.cosine else self.weight

    def observe(self, latents_NE: Tensor) -> None:
        """See a training batch before it is quantised; a codebook trained by gradient has nothing to do here."""

    def quantize(self, z: Tensor) -> Encoded:
        """Replace every latent of `z` (B, E, h, w) by its nearest code.

        While training with gradients on, an EMA codebook moves its codes after they were used.
        """
        z = z.float()
        if self.cosine:
            z = F.normalize(z, dim=1)
        latents_NE = z.detach().permute(0, 2, 3, 1).flatten(0, 2)
        learning = self.training and torch.is_grad_enabled()
        if learning:
            self.observe(latents_NE)
        tokens_N, _ = nearest(latents_NE, self.codes())
        encoded = Encoded(z, self.look_up(tokens_N.view(len(z), *z.shape[2:])), tokens_N.view(len(z), -1))
        if learning:
            self.learn(latents_NE, tokens_N)
        return encoded

    def learn(self, latents_NE: Tensor, tokens_N: Tensor) -> None:
        """Follow a training batch after it was quantised; a codebook trained by gradient has nothing to do here."""

    def look_up(self, tokens: Tensor) -> Tensor:
        """Codes of `tokens` (B, h, w) int64 as (B, E, h, w)."""
        return F.embedding(tokens, self.codes()).permute(0, 3, 1, 2)


class StraightThrough(Codebook):
    """Codes are a parameter, trained by the commitment loss alone (van den Oord et al. 2017, equation 3; JOWA)."""

    def __init__(self, config: TokenizerConfig, generator: torch.Generator) -> None:
        super().__init__(config)
        self.weight = nn.Parameter(uniform_codes(config, generator))


class EMA(Codebook):
    """Codes are the running mean of the latents they were nearest to (van den Oord et al. 2017, appendix A.1).

    k-means start and revival keep the whole vocabulary in use; both seed codes from latents, drawn with probability
    proportional to their squared distance from the nearest code (k-means++), so that rare patches (a ball, a shot) are
    found among a hundred patches of background. Draws depend on `seed` and the step alone: a resumed run repeats them.
    `gather` turns the latents that this process sees into those of all processes, in order: each then moves its codes
    as one process with the whole batch would.
    With `revive="anywhere"` (Simulus) a dead code becomes any latent of the batch, drawn by `pick`, and its sums stay:
    at the next step it is moved back, or anew. `ema_smoothing` adds so much to every code's count (Laplace).
    """

    gather: Callable[[Tensor], Tensor] = staticmethod(lambda latents_NE: latents_NE)
    pick: Callable[[int, int, torch.Generator], Tensor]  # (rows, of so many, draws) -> numbers of rows
    step: Tensor
    cluster_size: Tensor
    code_sum: Tensor

    def __init__(self, config: TokenizerConfig, generator: torch.Generator) -> None:
        super().__init__(config)
        self.decay, self.revive_below, self.kmeans_start = config.ema_decay, config.revive_below, config.kmeans_start
        self.smoothing, self.keep_sums = config.ema_smoothing, config.revive == "anywhere"
        self.pick = any_rows
        self.seed = generator.initial_seed()
        codes_VE = uniform_codes(config, generator)
        self.register_buffer("weight", F.normalize(codes_VE, dim=1) if config.cosine else codes_VE)
        self.register_buffer("code_sum", self.weight.clone())
        self.register_buffer("cluster_size", torch.ones(config.vocab_size))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, latents_NE: Tensor) -> None:
        if self.kmeans_start and self.step == 0:
            latents_NE = self.gather(latents_NE)
            codes_VE = kmeans(latents_NE, len(self.weight), KMEANS_ROUNDS, self._generator())
            self._place(torch.ones_like(self.cluster_size, dtype=torch.bool), codes_VE, 1.0)

    @torch.no_grad()
    def learn(self, latents_NE: Tensor, tokens_N: Tensor) -> None:
        latents_NE, tokens_N = self.gather(latents_NE), self.gather(tokens_N)
        counts_V, sums_VE = cluster_sums(latents_NE, tokens_N, len(self.weight))
        self.cluster_size.lerp_(counts_V, 1 - self.decay)
        self.code_sum.lerp_(sums_VE, 1 - self.decay)
        means_VE = self.code_sum / self._sizes()[:, None]
        if self.cosine:
            means_VE = F.normalize(means_VE, dim=1)
        in_use = self.cluster_size > 1e-5  # below it both sums underflow: a code left alone stays where it is
        self.weight.copy_(torch.where(in_use[:, None], means_VE, self.weight))
        dead = self.cluster_size < self.revive_below  # none, where it is 0
        if self.keep_sums and dead.any():
            seeds = latents_NE[self.pick(int(dead.sum()), len(latents_NE), self._generator()).to(latents_NE.device)]
            self.weight[dead] = F.normalize(seeds, dim=1) if self.cosine else seeds
        elif dead.any():
            _, distances_N = nearest(latents_NE, self.weight)
            seeds = far_latents(latents_NE, distances_N, int(dead.sum()), self._generator())
            # Twice the threshold: a revived code has about 70 steps (at decay 0.99) to find a use of its own.
            self._place(dead, seeds, 2 * self.revive_below)
        self.step += 1

    def _sizes(self) -> Tensor:
        """(V,) latents a batch of each code, by which its sum is divided."""
        if not self.smoothing:
            return self.cluster_size.clamp(min=1e-5)
        total = self.cluster_size.sum()
        return (self.cluster_size + self.smoothing) / (total + len(self.weight) * self.smoothing) * total

    def _place(self, rows_V: Tensor, codes: Tensor, size: float) -> None:
        """Set the codes of the rows that are True, as if each had been the mean of `size` latents a batch."""
        self.weight[rows_V] = F.normalize(codes, dim=1) if self.cosine else codes
        self.cluster_size[rows_V] = size
        self.code_sum[rows_V] = self.weight[rows_V] * size

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + int(self.step))


def uniform_codes(config: TokenizerConfig, generator: torch.Generator) -> Tensor:
    """Codes (V, E) uniform in +-1/V."""
    bound = 1 / config.vocab_size
    return torch.empty(config.vocab_size, config.embed_dim).uniform_(-bound, bound, generator=generator)


def cluster_sums(latents_NE: Tensor, tokens_N: Tensor, vocab: int) -> tuple[Tensor, Tensor]:
    """Number of latents of each token (V,), float32, and their sum (V, E)."""
    counts_V = torch.bincount(tokens_N, minlength=vocab).to(latents_NE.dtype)
    sums_VE = latents_NE.new_zeros(vocab, latents_NE.shape[1]).index_add_(0, tokens_N, latents_NE)
    return counts_V, sums_VE


def any_rows(rows: int, of: int, generator: torch.Generator) -> Tensor:
    """Numbers of `rows` rows among `of`, each as likely, with replacement: long."""
    return torch.randint(of, (rows,), generator=generator)


def far_latents(latents_NE: Tensor, distances_N: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` latents (count, E) with probability proportional to `distances_N`, without replacement if enough."""
    weights_N = distances_N.cpu().double() + 1e-12  # never all zero, so a batch of one repeated frame is fine too
    rows = torch.multinomial(weights_N, count, replacement=count > len(weights_N), generator=generator)
    return latents_NE[rows.to(latents_NE.device)]


def kmeans(latents_NE: Tensor, count: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Lloyd's algorithm: `count` centres (count, E); a centre that lost all its latents moves to a far one."""
    codes_VE = far_latents(latents_NE, torch.ones_like(latents_NE[:, 0]), count, generator).clone()
    for _ in range(rounds):
        tokens_N, distances_N = nearest(latents_NE, codes_VE)
        counts_V, sums_VE = cluster_sums(latents_NE, tokens_N, count)
        codes_VE = sums_VE / counts_V.clamp(min=1)[:, None]
        if (empty := counts_V == 0).any():
            codes_VE[empty] = far_latents(latents_NE, distances_N, int(empty.sum()), generator)
    return codes_VE
