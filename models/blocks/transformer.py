"""Pre-norm causal transformer (GPT-2's block) that can go on from a cache of keys and values.

Shapes: B rows, L new tokens, D width, H heads, E = D / H. Parameter names are those of JOWA's released
checkpoints: `blocks.{i}.{ln1,ln2}`, `.attn.{key,query,value,proj}`, `.mlp.{0,2}`, `ln_f`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.cache import Cache, KVCache
from models.cpu.dropout import Dropout, causal_attention


class CausalAttention(nn.Module):
    """Multi-head attention in which a token sees itself and what came before, cached or new."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, layer: int, cache: Cache | None, newest: bool) -> Tensor:
        """(B, L, D) -> (B, L, D), or (B, 1, D) for the newest token alone."""
        key, value, query = (
            linear(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for linear, y in ((self.key, x), (self.value, x), (self.query, x[:, -1:] if newest else x))
        )  # (B, H, L, E)
        mask = None  # one new token may see everything
        if cache is not None:
            key, value, mask = cache.append(layer, key, value)
            query = query.to(key.dtype)
        new, seen, dropout = query.shape[2], key.shape[2], self.dropout if self.training else 0.0
        causal = new > 1 and mask is None
        if causal and seen > new:
            mask = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
        if causal and seen == new:
            y = causal_attention(query, key, value, dropout)
        else:
            y = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        return self.proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.attn = CausalAttention(width, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, layer: int, cache: Cache | None, newest: bool) -> Tensor:
        """(B, L, D) -> (B, L, D), or (B, 1, D) for the newest token alone."""
        attended = self.drop(self.attn(self.ln1(x), layer, cache, newest))
        x = (x[:, -1:] if newest else x) + attended
        return x + self.drop(self.mlp(self.ln2(x)))


class Transformer(nn.Module):
    """Dropout, blocks, final LayerNorm, on vectors that are embedded already."""

    def __init__(self, layers: int, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.drop = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.heads, self.width = heads, width

    def forward(self, x: Tensor, cache: Cache | None = None, newest: bool = False) -> Tensor:
        """(B, L, D) -> (B, L, D). With a cache, x continues what is in it, and is added to it.

        `newest`: (B, 1, D) for the last token only, which spares the last block most of its work.
        """
        x, length, last = self.drop(x), x.shape[1], len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, cache, newest and layer == last)
        if cache is not None:
            cache.advance(length)
        return self.ln_f(x)

    def cache_type(self) -> tuple[torch.dtype, torch.device]:
        """What a cache holds now: the autocast type if autocast is on, else that of the weights; and where."""
        weight = self.ln_f.weight
        device = weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        return dtype, weight.device

    def empty_cache(self, rows: int, capacity: int) -> KVCache:
        """An unfilled cache of `capacity` tokens a row."""
        shape = (len(self.blocks), rows, self.heads, capacity, self.width // self.heads)
        return KVCache.empty(shape, *self.cache_type())
