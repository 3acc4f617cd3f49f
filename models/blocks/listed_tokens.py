"""Passes over any tokens of growing spans: a list of them, in which every span may be at another place.

`KVCache` reads the next token of every growing span. Here a pass reads several places of a span, in rising order, or
none, or some of them again: what stood there before is forgotten. A token sees what its span's parent saw and its own
span up to itself. The network reads the list as one row, so that it computes nothing for places that nobody asked for;
at attention tokens meet their trees.

Shapes: N trees, R growing spans of S tokens each, T listed tokens, L of them in the tree with most; H heads, E width
of a head, C slots of the cache.
"""

import numpy as np
import torch
from torch import Tensor

from models.blocks.drafts import Ints
from models.blocks.transformer import Cache, KVCache


class ListedTokens(Cache):
    """The spans that grow in `cache`, none of whose tokens was read. `at` names the tokens of the next pass.

    Raises ValueError where no spans grow, or one was read.
    """

    def __init__(self, cache: KVCache) -> None:
        if cache.bias is None or cache.filled:
            raise ValueError(f"No spans grow here, or {cache.filled} tokens of them were read already: branch first")
        self._cache, self._sight_NRC = cache, cache.bias[:, 0]
        device, dtype, each = cache.keys.device, cache.bias.dtype, cache.span_tokens
        self._places_S = torch.arange(each, device=device)
        self._own_SS = torch.full((each, each), -torch.inf, dtype=dtype, device=device).triu(1)

    def at(self, trees_T: Ints, spans_T: Ints, places_T: Ints) -> None:
        """These tokens are read next: a tree's after each other, trees in rising order, no place twice."""
        trees = len(self._sight_NRC)
        counts_N = np.bincount(trees_T, minlength=trees)
        self._most = int(counts_N.max())
        self._even = self._most * trees == len(trees_T)
        columns_T = np.arange(len(trees_T)) - (np.cumsum(counts_N) - counts_N)[trees_T]
        starts_T = self._cache.length + spans_T * self._cache.span_tokens
        numbers = torch.from_numpy(np.stack([trees_T, spans_T, places_T, starts_T, columns_T]))
        self._trees_T, on_spans_T, on_places_T, on_starts_T, self._columns_T = numbers.to(self._own_SS.device)
        self._slots_T = on_starts_T + on_places_T
        sight_TC = self._sight_NRC[self._trees_T, on_spans_T]
        sight_TC.scatter_(1, on_starts_T[:, None] + self._places_S, self._own_SS[on_places_T])
        self._bias = self._by_tree(sight_TC)[:, None]

    def append(self, layer: int, keys_1HTE: Tensor, values_1HTE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Cache`."""
        keys, values, slots = self._cache.keys[layer], self._cache.values[layer], self._bias.shape[3]
        for all_NHCE, new_1HTE in ((keys, keys_1HTE.to(keys.dtype)), (values, values_1HTE.to(values.dtype))):
            if len(all_NHCE) == 1:
                all_NHCE.index_copy_(2, self._slots_T, new_1HTE)
            else:
                all_NHCE[self._trees_T, :, self._slots_T] = new_1HTE[0].transpose(0, 1)
        return keys[:, :, :slots], values[:, :, :slots], self._bias

    def spread(self, queries_1HTE: Tensor) -> Tensor:
        """See `Cache`: (N, H, L, E), nothing where a tree has fewer tokens."""
        return self._by_tree(queries_1HTE[0].transpose(0, 1)).transpose(1, 2)

    def collect(self, found_NHLE: Tensor) -> Tensor:
        """See `Cache`: (1, H, T, E)."""
        if self._even:
            return found_NHLE.transpose(0, 1).flatten(1, 2)[None]
        return found_NHLE[self._trees_T, :, self._columns_T].transpose(0, 1)[None]

    def advance(self, tokens: int) -> None:
        """Nothing is counted: `KVCache.resume` is told how far the spans were read."""

    def _by_tree(self, x_T: Tensor) -> Tensor:
        """(T, ...) -> (N, L, ...), zeros where a tree has fewer."""
        shape = (len(self._sight_NRC), self._most)
        if self._even:
            return x_T.unflatten(0, shape)
        grid = x_T.new_zeros(*shape, *x_T.shape[1:])
        grid[self._trees_T, self._columns_T] = x_T
        return grid
