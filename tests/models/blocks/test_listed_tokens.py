"""A list of tokens, each span at its own place, reads as every path alone, whatever stood there before."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.blocks.listed_tokens import ListedTokens
from models.blocks.transformer import KVCache
from tests.models.blocks.test_transformer import make, vectors

PLACES = 4


@given(st.data(), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_any_order_of_reading_ends_as_whole_paths_do(data: st.DataObject, rows: int, growing: int) -> None:
    """Two levels of spans; every pass reads some tokens of each, of which some were read before, with other vectors."""
    transformer, stem = make(), vectors(rows, 2)
    cache = KVCache.empty((2, rows, 2, 2, 4), torch.float32, torch.device("cpu"))  # spans must make room
    transformer(stem, cache)
    paths = [[stem[row]] for row in range(rows)]  # what each node of each tree has read
    for group in range(2):
        parents = [[data.draw(st.integers(0, cache.spans)) for _ in range(growing)] for _ in range(rows)]
        x = vectors(rows, growing, PLACES, seed=group)
        cache.branch(torch.tensor(parents), PLACES)
        outputs = torch.empty_like(x)
        done = np.zeros((rows, growing), dtype=np.int64)
        transformer_reads(cache, x + 1, np.zeros_like(done), done + PLACES)  # a draft that is all wrong
        while (done < PLACES).any():
            until = np.array([[data.draw(st.integers(int(at), PLACES)) for at in row] for row in done])
            until[np.unravel_index(done.argmin(), done.shape)] += int(until.sum() == done.sum())
            trees, spans, places, found = transformer_reads(cache, x, done, until)
            outputs[trees, spans, places] = found
            done = until
        cache.resume(PLACES)
        for row in range(rows):
            for place, parent in enumerate(parents[row]):
                paths[row].append(torch.cat([paths[row][parent], x[row, place]]))
                alone = transformer(paths[row][-1][None])[0, -PLACES:]
                torch.testing.assert_close(outputs[row, place], alone, rtol=1e-4, atol=1e-5)
        assert cache.length == 2 + cache.spans * PLACES


def transformer_reads(
    cache: KVCache, x_NRSD: torch.Tensor, first_NR: np.ndarray, until_NR: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, torch.Tensor]:
    """Read each span's places from `first` to `until`; returns trees, spans, places and the hidden states (T, D)."""
    each = [
        (tree, span, place)
        for tree, span in np.ndindex(*first_NR.shape)
        for place in range(first_NR[tree, span], until_NR[tree, span])
    ]
    trees, spans, places = np.array(each).T
    listed = ListedTokens(cache)
    listed.at(trees, spans, places)
    return trees, spans, places, make()(x_NRSD[trees, spans, places][None], listed)[0]


@torch.no_grad()
def test_one_by_one_goes_on_where_the_list_ends() -> None:
    transformer, x = make(), vectors(2, 3, PLACES, seed=4)
    outputs = []
    for listed in (0, 1, 3):
        cache = transformer.empty_cache(2, 32)
        transformer(vectors(2, 2), cache)
        cache.branch(torch.tensor([[0, 0, 0]] * 2), PLACES)
        if listed:
            first = np.zeros((2, 3), dtype=np.int64)
            transformer_reads(cache, x, first, first + listed + np.array([[0, 1, 0]]))  # one is a place ahead
            cache.resume(listed)
        read = [transformer(x[:, :, place], cache) for place in range(listed, PLACES)]
        outputs.append(read[-1])
        assert cache.bias is None and cache.length == 2 + 3 * PLACES
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(outputs[2], outputs[0])


def test_only_spans_that_have_no_token_yet_are_listed() -> None:
    cache = KVCache.empty((1, 1, 2, 8, 4), torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match="No spans grow here"):
        ListedTokens(cache)
    with pytest.raises(ValueError, match="No spans grow here"):
        cache.resume(1)
    cache.branch(torch.tensor([[0, 0]]), 2)
    cache.advance(1)
    with pytest.raises(ValueError, match="1 tokens of them were read already"):
        ListedTokens(cache)


@torch.no_grad()
def test_a_line_goes_on_behind_what_was_kept_of_its_open_span() -> None:
    """Whatever was read of a span, one that is closed early is forgotten from there on; passes need no mask."""
    transformer, x = make(), vectors(2, 2 + PLACES)
    cache = KVCache.empty((2, 2, 2, 2, 4), torch.float32, torch.device("cpu"))  # the span must make room
    transformer(x[:, :2], cache)
    cache.open(PLACES)
    span = torch.cat([x[:, 2:4], x[:, 4:] + 1], dim=1)[:, None]  # its last two are wrong
    transformer_reads(cache, span, np.zeros((2, 1), dtype=np.int64), np.full((2, 1), PLACES))
    cache.close(2)
    assert cache.length == 4 and cache.bias is None
    torch.testing.assert_close(transformer(x[:, 4:], cache), transformer(x)[:, 4:], rtol=1e-4, atol=1e-5)
    cache.open(PLACES)
    with pytest.raises(ValueError, match="cannot be opened where spans grow"):
        cache.open(PLACES)
    cache.close(0)
    cache.branch(torch.zeros(2, 1, dtype=torch.long), PLACES)
    cache.resume(PLACES)
    with pytest.raises(ValueError, match="or have branched off"):
        cache.open(PLACES)
