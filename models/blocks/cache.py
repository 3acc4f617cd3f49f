"""Keys and values of a causal transformer for N trees of tokens, in memory that is allocated once.

A tree is a trunk, read in order, and spans of S tokens that continue the trunk or another span. R spans grow at a time
in every tree, one token each a pass. A token sees the trunk, the spans on the way to its own, and its own up to itself:
which those are is a mask, so that a search branches and returns without copying, and the R new tokens of a tree read
its trunk once.

Shapes: N trees, L new tokens, H heads, E width of a head, V spans, R spans that grow together, S tokens a span.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Cache(Protocol):
    """What a pass of the transformer asks of a cache."""

    def append(self, layer: int, keys_NHLE: Tensor, values_NHLE: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """append(layer, new keys, new values) -> all keys and values (N, H, slots, E), and a mask if there is one"""
        ...

    def advance(self, tokens: int) -> None:
        """advance(tokens) -> None: every layer has appended them"""
        ...


class KVCache:
    """`length` slots are filled. A pass of the transformer calls `append` once a layer and `advance` at its end."""

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
        self._span_tokens = 0
        self._filled = self._growing = 0  # tokens in each growing span; how many spans are growing
        self._bias: Tensor | None = None  # (N, 1, R, slots) what growing tokens may see: 0, else -inf
        # What is seen from the end of the trunk (row 0) and of every span: (N, V + 1, V) bool.
        self._paths = torch.zeros(self.rows, 1, 0, dtype=torch.bool, device=self.keys.device)

    @property
    def rows(self) -> int:
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def branch(self, parents_NR: Tensor, tokens: int) -> None:
        """Open R spans of `tokens` slots in every tree; the next `tokens` passes fill them.

        Parents are numbers of spans in order of creation from 1, or 0 for the end of the trunk. Raises ValueError while
        other spans are growing, for another number of rows, or for spans of another length than before.
        """
        rows, growing = parents_NR.shape
        if self._bias is not None or rows != self.rows or tokens != (self._span_tokens or tokens):
            raise ValueError(
                f"{growing} spans of {tokens} tokens for {rows} rows cannot branch off here: the cache has {self.rows} "
                f"rows, spans of {self._span_tokens or 'no'} tokens, and {self._growing} spans that still grow"
            )
        self.trunk = self.length if self.trunk is None else self.trunk
        self._span_tokens, self._growing, self._filled = tokens, growing, 0
        end = self.length + growing * tokens
        self._reserve(end)
        device = parents_NR.device
        seen_NRV = self._paths[torch.arange(rows, device=device)[:, None], parents_NR]
        bias = torch.zeros(rows, 1, growing, end, dtype=self.keys.dtype, device=device)
        bias[:, 0, :, self.trunk : self.length].masked_fill_(~seen_NRV.repeat_interleave(tokens, 2), -torch.inf)
        bias[..., self.length :] = -torch.inf
        self._bias = bias
        self._show_own()
        own = torch.eye(growing, dtype=torch.bool, device=device).expand(rows, -1, -1)
        older = torch.nn.functional.pad(self._paths, (0, growing))
        self._paths = torch.cat([older, torch.cat([seen_NRV, own], dim=2)], dim=1)
        self.spans += growing

    def append(self, layer: int, keys_NHLE: Tensor, values_NHLE: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store a layer's new tokens; returns all its keys and values (N, H, slots, E), and the growing spans' mask.

        Raises ValueError where rows differ or the tokens do not fit.
        """
        rows, new = keys_NHLE.shape[0], keys_NHLE.shape[2]
        if self._bias is None:
            slots = slice(self.length, self.length + new)
        else:
            slots = slice(self.length + self._filled, self._bias.shape[3], self._span_tokens)
        if rows != self.rows or slots.stop > self.capacity or (self._bias is not None and new != self._growing):
            raise ValueError(
                f"{rows} rows of {new} tokens up to slot {slots.stop} do not fit a cache of {self.rows} rows, "
                f"{self.capacity} slots and {self._growing} growing spans"
            )
        self.keys[layer, :, :, slots] = keys_NHLE
        self.values[layer, :, :, slots] = values_NHLE
        return self.keys[layer, :, :, : slots.stop], self.values[layer, :, :, : slots.stop], self._bias

    def advance(self, tokens: int) -> None:
        """Count the tokens that every layer has appended."""
        if self._bias is None:
            self.length += tokens
            return
        self._filled += 1
        if self._filled < self._span_tokens:
            self._show_own()
            return
        self.length, self._growing, self._bias = self._bias.shape[3], 0, None

    def growing(self) -> "GrowingSpans":
        """The spans that grow as tensors of fixed shape, before their first token. Raises ValueError where none do."""
        if self._bias is None or self._filled:
            raise ValueError(f"{self._filled} tokens of {self._growing} spans were read already, or none grow: branch")
        starts_R = self.length + torch.arange(self._growing, device=self._bias.device) * self._span_tokens
        hidden = self.capacity - self._bias.shape[3]
        bias = torch.nn.functional.pad(self._bias, (0, hidden), value=-torch.inf)
        return GrowingSpans(self.keys, self.values, starts_R, bias)

    def _show_own(self) -> None:
        """Let every growing span's next token see its own slot."""
        assert self._bias is not None
        own = torch.arange(self._growing, device=self._bias.device)
        self._bias[:, 0, own, self.length + own * self._span_tokens + self._filled] = 0

    def _reserve(self, slots: int) -> None:
        """Make room, at least doubling: a search that repeats allocates in its first run only."""
        if slots <= self.capacity:
            return
        more = max(slots, 2 * self.capacity) - self.capacity
        grown = (torch.nn.functional.pad(old, (0, 0, 0, more)) for old in (self.keys, self.values))
        self.keys, self.values = grown


@dataclass(frozen=True)
class GrowingSpans:
    """Growing spans at one of their tokens: all shapes are the same at every token, and no number is a Python one.

    So one compiled pass, or one CUDA graph, reads them all; it attends to every slot of the cache, filled or not.
    """

    keys: Tensor  # (layers, N, H, capacity, E), those of the cache
    values: Tensor
    slots_R: Tensor  # long, where the token goes
    bias: Tensor  # (N, 1, R, capacity), 0 for what is seen, else -inf

    def at(self, token: Tensor) -> "GrowingSpans":
        """These spans, which are at their first token, at that of this number (0-dimensional, long)."""
        slots_R = self.slots_R + token
        slot_C = torch.arange(self.bias.shape[3], device=self.bias.device)
        own_RC = (slot_C >= self.slots_R[:, None]) & (slot_C <= slots_R[:, None])
        return GrowingSpans(self.keys, self.values, slots_R, self.bias.masked_fill(own_RC, 0))

    def append(self, layer: int, keys_NHLE: Tensor, values_NHLE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Cache`."""
        self.keys[layer].index_copy_(2, self.slots_R, keys_NHLE.to(self.keys.dtype))
        self.values[layer].index_copy_(2, self.slots_R, values_NHLE.to(self.values.dtype))
        return self.keys[layer], self.values[layer], self.bias

    def advance(self, tokens: int) -> None:
        """Nothing: `at` says which token it is."""
