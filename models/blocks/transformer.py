"""Pre-norm causal transformer (GPT-2's block), and its cache of keys and values for N trees of tokens.

The cache's memory is allocated once. A tree is a trunk, read in order, and spans of S tokens that continue the trunk or
another span. R spans grow at a time in every tree, one token each a pass. A token sees the trunk, the spans on the way
to its own, and its own up to itself: which those are is a mask, so that a search branches and returns without copying,
and the R new tokens of a tree read its trunk once.

Shapes: B rows or N trees, L new tokens, D width, H heads, E = D / H, V spans, R spans that grow together, S tokens a
span. Parameter names are those of JOWA's released checkpoints: `blocks.{i}.{ln1,ln2}`,
`.attn.{key,query,value,proj}`, `.mlp.{0,2}`, `ln_f`.
"""

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cpu.shortcuts import Dropout, causal_attention

Gelu = Literal["none", "tanh"]  # which approximation, as torch names them


class Cache(Protocol):
    """What a pass of the transformer asks of a cache."""

    def append(self, layer: int, keys_NHLE: Tensor, values_NHLE: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """append(layer, new keys, new values) -> all keys and values (N, H, slots, E), and a mask if there is one"""
        ...

    def advance(self, tokens: int) -> None:
        """advance(tokens) -> None: every layer has appended them"""
        ...

    def spread(self, queries_NHLE: Tensor) -> Tensor:
        """spread(new queries) -> the same, row by row of the keys that they look at"""
        return queries_NHLE

    def collect(self, found_NHLE: Tensor) -> Tensor:
        """collect(what was found for each spread query) -> the same, in the order of the new tokens"""
        return found_NHLE


class KVCache(Cache):
    """`length` slots are filled. A pass of the transformer calls `append` once a layer and `advance` at its end.

    While spans grow, `bias` masks what their tokens may see, and `filled` tokens of each have been read.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values  # (layers, N, H, capacity, E)
        self.clear()

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device) -> "KVCache":
        """An unfilled cache of shape (layers, N, H, capacity, E). Zeros: a masked slot must not hold a NaN."""
        return cls(*(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)))

    def clear(self) -> None:
        """Forget everything, keep the memory."""
        self.length = 0
        self.trunk: int | None = None  # its length, once something has branched off
        self.spans = 0
        self.span_tokens = self.filled = 0  # tokens of a whole span, and in each growing one
        self._growing = 0  # how many spans are growing
        self.bias: Tensor | None = None  # (N, 1, R, slots) what growing tokens may see: 0, else -inf
        # What is seen from the end of the trunk (row 0) and of every span: (N, V + 1, V) bool.
        self._paths = torch.zeros(self.rows, 1, 0, dtype=torch.bool, device=self.keys.device)

    @property
    def rows(self) -> int:
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def serves(self, rows: int, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether it can be cleared and filled again; what inference mode made is frozen outside of it."""
        if self.keys.is_inference() and not torch.is_inference_mode_enabled():
            return False
        return (self.rows, self.keys.dtype, self.keys.device) == (rows, dtype, device)

    def branch(self, parents_NR: Tensor, tokens: int) -> None:
        """Open R spans of `tokens` slots in every tree; the next `tokens` passes fill them.

        Parents are numbers of spans in order of creation from 1, or 0 for the end of the trunk. Raises ValueError while
        other spans are growing, for another number of rows, or for spans of another length than before.
        """
        rows, growing = parents_NR.shape
        if self.bias is not None or rows != self.rows or tokens != (self.span_tokens or tokens):
            raise ValueError(
                f"{growing} spans of {tokens} tokens for {rows} rows cannot branch off here: the cache has {self.rows} "
                f"rows, spans of {self.span_tokens or 'no'} tokens, and {self._growing} spans that still grow"
            )
        self.trunk = self.length if self.trunk is None else self.trunk
        self.span_tokens, self._growing, self.filled = tokens, growing, 0
        end = self.length + growing * tokens
        self._reserve(end)
        device = parents_NR.device
        seen_NRV = self._paths[torch.arange(rows, device=device)[:, None], parents_NR]
        bias = torch.zeros(rows, 1, growing, end, dtype=self.keys.dtype, device=device)
        bias[:, 0, :, self.trunk : self.length].masked_fill_(~seen_NRV.repeat_interleave(tokens, 2), -torch.inf)
        bias[..., self.length :] = -torch.inf
        self.bias = bias
        self._show_own()
        own = torch.eye(growing, dtype=torch.bool, device=device).expand(rows, -1, -1)
        older = torch.nn.functional.pad(self._paths, (0, growing))
        self._paths = torch.cat([older, torch.cat([seen_NRV, own], dim=2)], dim=1)
        self.spans += growing

    def open(self, tokens: int) -> None:
        """Grow one span of `tokens` slots in every row, for `ListedTokens` to read; `close` keeps what is right of it.

        Raises ValueError where spans grow or anything has branched off.
        """
        if self.bias is not None or self.trunk is not None:
            raise ValueError("A span of a line cannot be opened where spans grow or have branched off: clear it first")
        end = self.length + tokens
        self._reserve(end)
        self.span_tokens, self._growing, self.filled = tokens, 1, 0
        self.bias = torch.zeros(self.rows, 1, 1, end, dtype=self.keys.dtype, device=self.keys.device)
        self.bias[..., self.length :] = -torch.inf

    def close(self, kept: int) -> None:
        """So many tokens of every row's open span are kept, and passes without a mask go on behind them."""
        self.length += kept
        self.span_tokens, self._growing, self.bias = 0, 0, None

    def append(self, layer: int, keys_NHLE: Tensor, values_NHLE: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store a layer's new tokens; returns all its keys and values (N, H, slots, E), and the growing spans' mask.

        Raises ValueError where rows differ or the tokens do not fit.
        """
        rows, new = keys_NHLE.shape[0], keys_NHLE.shape[2]
        if self.bias is None:
            slots = slice(self.length, self.length + new)
        else:
            slots = slice(self.length + self.filled, self.bias.shape[3], self.span_tokens)
        if rows != self.rows or slots.stop > self.capacity or (self.bias is not None and new != self._growing):
            raise ValueError(
                f"{rows} rows of {new} tokens up to slot {slots.stop} do not fit a cache of {self.rows} rows, "
                f"{self.capacity} slots and {self._growing} growing spans"
            )
        self.keys[layer, :, :, slots] = keys_NHLE
        self.values[layer, :, :, slots] = values_NHLE
        return self.keys[layer, :, :, : slots.stop], self.values[layer, :, :, : slots.stop], self.bias

    def advance(self, tokens: int) -> None:
        """Count the tokens that every layer has appended."""
        if self.bias is None:
            self.length += tokens
            return
        self.resume(self.filled + 1)

    def resume(self, filled: int) -> None:
        """So many tokens of every growing span have been read, in whatever order. Raises ValueError where none grow."""
        if self.bias is None:
            raise ValueError("No spans grow here: branch first")
        while self.filled < filled:
            self.filled += 1
            if self.filled < self.span_tokens:
                self._show_own()
        if self.filled == self.span_tokens:
            self.length, self._growing, self.bias = self.bias.shape[3], 0, None

    def _show_own(self) -> None:
        """Let every growing span's next token see its own slot."""
        assert self.bias is not None
        own = torch.arange(self._growing, device=self.bias.device)
        self.bias[:, 0, own, self.length + own * self.span_tokens + self.filled] = 0

    def _reserve(self, slots: int) -> None:
        """Make room, at least doubling: a search that repeats allocates in its first run only."""
        if slots <= self.capacity:
            return
        more = max(slots, 2 * self.capacity) - self.capacity
        grown = (torch.nn.functional.pad(old, (0, 0, 0, more)) for old in (self.keys, self.values))
        self.keys, self.values = grown


class Padded(Cache):
    """In a cache's place where whole sequences are read once: no token sees padding, and padding only itself.

    padding: (N, L) bool, True at tokens that are not there.
    """

    def __init__(self, padding_NL: Tensor) -> None:
        self._mask = seen_mask(padding_NL, 0)

    def append(self, layer: int, keys_NHLE: Tensor, values_NHLE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Cache`: nothing is kept."""
        return keys_NHLE, values_NHLE, self._mask

    def advance(self, tokens: int) -> None:
        """Nothing is counted."""


class PaddedCache(KVCache):
    """A cache whose first tokens are padding in some rows, which no token sees."""

    def hide(self, padding_NL: Tensor) -> None:
        """Padding of the first L slots, (N, L) bool."""
        self._padding_NL = padding_NL

    def append(self, layer: int, keys_NHLE: Tensor, values_NHLE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `KVCache`."""
        keys, values, _ = super().append(layer, keys_NHLE, values_NHLE)
        padding_NL = self._padding_NL[:, : keys.shape[2]]
        later_NL = torch.nn.functional.pad(padding_NL, (0, keys.shape[2] - padding_NL.shape[1]))
        return keys, values, seen_mask(later_NL, keys.shape[2] - keys_NHLE.shape[2])


def seen_mask(padding_NL: Tensor, first: int) -> Tensor:
    """Bool (N, 1, L - first, L): what the tokens from `first` on see, all up to themselves that is no padding."""
    length = padding_NL.shape[1]
    own_LL = torch.eye(length, dtype=torch.bool, device=padding_NL.device)
    seen_NLL = (~padding_NL[:, None] & torch.ones_like(own_LL).tril()) | own_LL
    return seen_NLL[:, None, first:]


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
            query = cache.spread(query.to(key.dtype))
        new, seen, dropout = query.shape[2], key.shape[2], self.dropout if self.training else 0.0
        mask = None if mask is None else mask[..., -new:, :]
        causal = new > 1 and mask is None
        if causal and seen > new:
            mask = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
        if causal and seen == new:
            y = causal_attention(query, key, value, dropout)
        else:
            y = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        if cache is not None:
            y = cache.collect(y)
        return self.proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, dropout: float, gelu: Gelu = "none") -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.attn = CausalAttention(width, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(gelu), nn.Linear(4 * width, width))
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, layer: int, cache: Cache | None, newest: bool) -> Tensor:
        """(B, L, D) -> (B, L, D), or (B, 1, D) for the newest token alone."""
        attended = self.drop(self.attn(self.ln1(x), layer, cache, newest))
        x = (x[:, -1:] if newest else x) + attended
        return x + self.drop(self.mlp(self.ln2(x)))


class Transformer(nn.Module):
    """Dropout, blocks, final LayerNorm, on vectors that are embedded already.

    `gelu` is exact, or the approximation that GPT-2 was trained with. What a family puts before the blocks or behind
    the last LayerNorm it assigns to `before` or `behind`.
    """

    def __init__(self, layers: int, heads: int, width: int, dropout: float, gelu: Gelu = "none") -> None:
        super().__init__()
        self.drop = Dropout(dropout)
        self.before: nn.Module = nn.Identity()
        self.blocks = nn.ModuleList(Block(width, heads, dropout, gelu) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.behind: nn.Module = nn.Identity()
        self.heads, self.width = heads, width

    def forward(self, x: Tensor, cache: Cache | None = None, newest: bool = False) -> Tensor:
        """(B, L, D) -> (B, L, D). With a cache, x continues what is in it, and is added to it.

        `newest`: (B, 1, D) for the last token only, which spares the last block most of its work.
        """
        x, length, last = self.before(self.drop(x)), x.shape[1], len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, cache, newest and layer == last)
        if cache is not None:
            cache.advance(length)
        return self.behind(self.ln_f(x))

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
