"""A transformer with prediction tokens: parallel observation prediction (POP) on attention, with a cache.

Tokens are read in order and see what came before. Behind any block of them a run of prediction tokens can be asked for,
at the positions that follow: they see all that was read up to there and, of their own run, what is before them; nothing
sees them. Behind the last block of what is read that is plain causal attention over both, so that an imagined step
reads a frame and predicts the next in one pass; the cache keeps what was read and overwrites the predictions.

Layers have their norms behind the sum (post-norm). Positions enter by rotating queries and keys in halves: numbers i
and i + E/2 of a head turn by 10000^(-2i/E) a token. The original caches keys before they are turned and turns all of
them at every use; here they are turned once, since a token keeps its position as long as it is in the cache.
Source: arXiv 2502.11537 (Simulus), in the form of its code since 2026 (Simulus-A). Parameters have its names.

Shapes: N rows, L tokens, D width, H heads, E = D / H, M runs of P prediction tokens, Q queries of S visible tokens.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.transformer import KVCache
from models.cpu.shortcuts import Dropout, causal_attention

BASE = 10_000.0


def turned(x_NHLE: Tensor, positions_L: Tensor) -> Tensor:
    """Each token's halves turned by its position times their angles; a negative position turns back."""
    half = x_NHLE.shape[3] // 2
    angles_F = BASE ** (-torch.arange(half, dtype=torch.float64, device=positions_L.device) / half)
    turns_LF = positions_L.double()[:, None] * angles_F
    cos_LE, sin_LE = (each.repeat(1, 2).to(x_NHLE.dtype) for each in (turns_LF.cos(), turns_LF.sin()))
    swapped = torch.cat([-x_NHLE[..., half:], x_NHLE[..., :half]], dim=-1)
    return x_NHLE * cos_LE + swapped * sin_LE


def visible(at_Q: Tensor, count: int) -> Tensor:
    """Which of `count` tokens (Q, count) a query may see: those up to number `at`."""
    return torch.arange(count, device=at_Q.device) <= at_Q[:, None]


def attend(q_NHQE: Tensor, k_NHSE: Tensor, v_NHSE: Tensor, at_Q: Tensor) -> Tensor:
    """Attention (N, H, Q, E) of queries that see tokens up to number `at`, which grows from query to query."""
    if q_NHQE.shape[2] == k_NHSE.shape[2]:  # each sees itself and what is before it
        return causal_attention(q_NHQE, k_NHSE, v_NHSE, 0.0)
    return F.scaled_dot_product_attention(q_NHQE, k_NHSE, v_NHSE, visible(at_Q, k_NHSE.shape[2]))


Core = Callable[[Tensor, Tensor, Tensor], Tensor]
"""core(turned q of what is asked for, turned k, v), each (N, H, L, E) -> attention of what is asked for"""


class Attention(nn.Module):
    """Multi-head attention without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x_NLD: Tensor, positions_L: Tensor, core: Core, keep: Tensor | None) -> Tensor:
        asked_NQD, asked_Q = (x_NLD, positions_L) if keep is None else (x_NLD[:, keep], positions_L[keep])
        read = ((asked_NQD, self.q_proj), (x_NLD, self.k_proj), (x_NLD, self.v_proj))
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for x, layer in read)
        found_NHQE = core(turned(q, asked_Q), turned(k, positions_L), v)
        return self.out_proj(found_NHQE.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """norm(x + attention(x)), then the same with two linear layers and a GELU between."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.ff = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = Dropout(dropout)

    def forward(self, x_NLD: Tensor, positions_L: Tensor, core: Core, keep: Tensor | None = None) -> Tensor:
        """Outputs (N, L, D), or those of the tokens at the places `keep` alone."""
        attended_NQD = self.self_attn(x_NLD, positions_L, core, keep)
        x_NQD = self.norm1((x_NLD if keep is None else x_NLD[:, keep]) + self.drop(attended_NQD))
        return self.norm2(x_NQD + self.drop(self.ff(x_NQD)))


class Read(NamedTuple):
    """Outputs (N, L, D) of what was read, or (N, T, D) at blocks' ends; of prediction tokens (N, M, P, D)."""

    outputs_NLD: Tensor
    predicted_NMPD: Tensor


class Places(NamedTuple):
    """Where the tokens of a pass stand: `length` that are read, behind `past`, then runs that begin at `starts`."""

    past: int
    length: int
    starts: tuple[int, ...]
    per_run: int

    def positions(self, device: torch.device) -> Tensor:
        """Of all tokens, in order."""
        firsts = ((self.past, self.length), *((start, self.per_run) for start in self.starts))
        return torch.cat([torch.arange(first, first + count, device=device) for first, count in firsts])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, at_Q: Tensor, store: Callable[..., Any] | None) -> Tensor:
        """Attention of what is asked for: of what was read, queries that see up to `at_Q`; then all runs.

        store: (new keys, new values) -> all of a cache, which keeps them.
        """
        one = self.starts == (self.past + self.length,)  # a run behind all that is read: as if it were read too
        new = slice(0, self.length + self.per_run if one else self.length)
        keys, values = k[:, :, new], v[:, :, new]
        if store is not None:
            keys, values, _ = store(keys, values)
            q = q.to(keys.dtype)
        if one:
            runs_at = self.past + torch.arange(self.length, new.stop, device=at_Q.device)
            return attend(q, keys, values, torch.cat([at_Q, runs_at]))
        found = [attend(q[:, :, : len(at_Q)], keys, values, at_Q)]
        for run, start in enumerate(self.starts):  # one at a time: three quarters of a mask over all would be empty
            own, asked = (slice(first, first + self.per_run) for first in self._firsts(run, len(at_Q)))
            seen_k, seen_v = (
                torch.cat([read[:, :, :start], mine[:, :, own].to(read)], dim=2)
                for read, mine in ((keys, k), (values, v))
            )
            at_P = torch.arange(start, start + self.per_run, device=at_Q.device)
            found.append(attend(q[:, :, asked], seen_k, seen_v, at_P))
        return torch.cat(found, dim=2)

    def _firsts(self, run: int, asked: int) -> tuple[int, int]:
        """Where a run begins among all tokens, and among those that are asked for."""
        return self.length + run * self.per_run, asked + run * self.per_run


class PopTransformer(nn.Module):
    """Layers on vectors that are embedded already, without a norm at their end but that of the last layer."""

    def __init__(self, layers: int, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.heads, self.width = heads, width

    def empty_cache(self, rows: int, capacity: int) -> KVCache:
        """An unfilled cache of `capacity` tokens a row, prediction tokens of a step among them."""
        shape = (len(self.layers), rows, self.heads, capacity, self.width // self.heads)
        return KVCache.empty(shape, *self.cache_type())

    def fresh_cache(self, rows: int, capacity: int, old: object = None) -> KVCache:
        """An unfilled cache; `old` is what nobody needs any more, and is used again where it serves."""
        if isinstance(old, KVCache) and old.serves(rows, *self.cache_type()):
            old.clear()
            return old
        return self.empty_cache(rows, capacity)

    def cache_type(self) -> tuple[torch.dtype, torch.device]:
        """What a cache holds now: autocast's type if autocast is on, else that of the weights; and where."""
        weight = next(self.layers[0].parameters())
        device = weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        return dtype, weight.device

    def read(
        self,
        x_NLD: Tensor,
        cache: KVCache | None = None,
        block: int = 0,
        predict: Tensor | None = None,
        behind: slice = slice(0),
        ends_only: bool = False,
    ) -> Read:
        """Read tokens, which continue what is in the cache and are added to it.

        block: tokens of a block (0: all are one). predict: (N, M, P, D) embedded prediction tokens, each run behind one
        of the T + 1 places that `behind` picks: before what is read, then after each block. ends_only: of what is read,
        only the outputs at the ends of blocks are wanted; the last layer makes no others. Raises ValueError where L
        does not divide into blocks, or the cache is too small.
        """
        length, past, device = x_NLD.shape[1], 0 if cache is None else cache.length, x_NLD.device
        block = block or length
        if length % block:
            raise ValueError(f"{length} tokens do not divide into blocks of {block}: give whole blocks")
        places = Places(past, length, (), 0)
        if predict is not None:
            starts = tuple(range(past, past + length + 1, block)[behind])
            places = Places(past, length, starts, predict.shape[2])
            x_NLD = torch.cat([x_NLD, predict.flatten(1, 2)], dim=1)
        positions_L, everywhere = places.positions(device), torch.arange(length, device=device)
        ends = everywhere[block - 1 :: block]
        keep = torch.cat([ends, torch.arange(length, len(positions_L), device=device)])
        for number, layer in enumerate(self.layers):
            at_ends = ends_only and number == len(self.layers) - 1
            at_Q = past + (ends if at_ends else everywhere)
            store = None if cache is None else partial(cache.append, number)
            core = partial(places.attend, at_Q=at_Q, store=store)
            x_NLD = layer(x_NLD, positions_L, core, keep if at_ends else None)
        if cache is not None:
            cache.advance(length)
        read = len(ends) if ends_only else length
        return Read(x_NLD[:, :read], x_NLD[:, read:].unflatten(1, (len(places.starts), places.per_run)))
