"""Pre-norm causal transformer (GPT-2's block) with a batched key-value cache.

Shapes: B rows, L new tokens, P cached tokens, D width, H heads, E = D / H. Parameter names are those of JOWA's released
checkpoints: `blocks.{i}.{ln1,ln2}`, `.attn.{key,query,value,proj}`, `.mlp.{0,2}`, `ln_f`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KVCache:
    """Keys and values of every layer for B rows, in memory allocated once; `length` tokens are filled.

    A step through the transformer calls `append` once a layer and `advance` once at its end.
    """

    def __init__(self, keys: Tensor, values: Tensor, length: int = 0) -> None:
        self.keys, self.values, self.length = keys, values, length  # (layers, B, H, capacity, E)

    @property
    def rows(self) -> int:
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def append(self, layer: int, keys_BHLE: Tensor, values_BHLE: Tensor) -> tuple[Tensor, Tensor]:
        """Store new tokens of one layer; returns all its keys and values (B, H, P + L, E).

        Raises ValueError where rows differ or the tokens do not fit.
        """
        rows, end = keys_BHLE.shape[0], self.length + keys_BHLE.shape[2]
        if rows != self.rows or end > self.capacity:
            raise ValueError(
                f"{rows} rows up to token {end} do not fit a cache of {self.rows} rows and {self.capacity} tokens: "
                "gather rows first, or use a shorter context"
            )
        self.keys[layer, :, :, self.length : end] = keys_BHLE
        self.values[layer, :, :, self.length : end] = values_BHLE
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, tokens: int) -> None:
        """Count tokens that every layer has appended."""
        self.length += tokens

    def gather(self, rows_M: Tensor) -> "KVCache":
        """A cache of the named rows, in that order, repeats allowed; only filled tokens are copied."""
        keys, values = (old.new_empty(old.shape[0], len(rows_M), *old.shape[2:]) for old in (self.keys, self.values))
        keys[:, :, :, : self.length] = self.keys[:, rows_M, :, : self.length]
        values[:, :, :, : self.length] = self.values[:, rows_M, :, : self.length]
        return KVCache(keys, values, self.length)


class CausalAttention(nn.Module):
    """Multi-head attention in which a token sees itself and what came before, cached or new."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, layer: int, cache: KVCache | None) -> Tensor:  # (B, L, D) -> (B, L, D)
        query, key, value = (
            linear(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )  # (B, H, L, E)
        if cache is not None:
            key, value = cache.append(layer, key, value)
            query = query.to(key.dtype)
        new, seen = query.shape[2], key.shape[2]
        mask = None  # one new token may see everything
        if new > 1 and seen > new:
            mask = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
        y = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=new > 1 and seen == new,
        )
        return self.proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.attn = CausalAttention(width, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, layer: int, cache: KVCache | None) -> Tensor:  # (B, L, D) -> (B, L, D)
        x = x + self.drop(self.attn(self.ln1(x), layer, cache))
        return x + self.drop(self.mlp(self.ln2(x)))


class Transformer(nn.Module):
    """Dropout, blocks, final LayerNorm, on vectors that are embedded already."""

    def __init__(self, layers: int, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.heads, self.width = heads, width

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D). With a cache, x continues what is in it, and is added to it."""
        x = self.drop(x)
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, cache)
        if cache is not None:
            cache.advance(x.shape[1])
        return self.ln_f(x)

    def empty_cache(self, rows: int, capacity: int) -> KVCache:
        """An unfilled cache in the autocast dtype if autocast is on, else in that of the weights."""
        weight = self.ln_f.weight
        device = weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        shape = (len(self.blocks), rows, self.heads, capacity, self.width // self.heads)
        keys, values = (torch.empty(shape, dtype=dtype, device=weight.device) for _ in range(2))
        return KVCache(keys, values)
