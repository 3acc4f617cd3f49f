import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.blocks.transformer import KVCache, Transformer

WIDTH = 8


def make() -> Transformer:
    torch.manual_seed(0)
    return Transformer(layers=2, heads=2, width=WIDTH, dropout=0.1).eval()


@pytest.fixture
def transformer() -> Transformer:
    return make()


def vectors(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


@given(st.data(), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_every_span_of_a_tree_reads_as_its_path_alone(data: st.DataObject, rows: int, trunk: int, tokens: int) -> None:
    """Random trees, whose spans grow in groups: each span's outputs are those of trunk and path in one pass."""
    transformer = make()
    stem = vectors(rows, trunk)
    cache = transformer.empty_cache(rows, 2)
    cache = KVCache.empty((2, rows, 2, trunk, WIDTH // 2), torch.float32, torch.device("cpu"))  # spans must make room
    transformer(stem, cache)
    paths = [[stem[row]] for row in range(rows)]  # what each node of each tree has read
    for group in range(data.draw(st.integers(1, 3))):
        growing = data.draw(st.integers(1, 3))
        node = st.integers(0, cache.spans)
        parents = [[data.draw(node) for _ in range(growing)] for _ in range(rows)]
        x = vectors(rows, growing, tokens, seed=group)
        cache.branch(torch.tensor(parents), tokens)
        outputs = torch.stack([transformer(x[:, :, token], cache) for token in range(tokens)], dim=2)
        for row in range(rows):
            for place, parent in enumerate(parents[row]):
                paths[row].append(torch.cat([paths[row][parent], x[row, place]]))
                alone = transformer(paths[row][-1][None])[0, -tokens:]
                torch.testing.assert_close(outputs[row, place], alone, rtol=1e-4, atol=1e-5)
    assert cache.length == trunk + cache.spans * tokens


def test_a_cleared_cache_is_as_new(transformer: Transformer) -> None:
    x, cache = vectors(1, 3), transformer.empty_cache(1, 4)
    fresh = transformer(x, transformer.empty_cache(1, 4))
    transformer(vectors(1, 2, seed=5), cache)
    cache.branch(torch.tensor([[0, 0]]), 2)
    transformer(vectors(1, 2, seed=6), cache)
    cache.clear()
    assert torch.equal(transformer(x, cache), fresh) and cache.length == 3


def test_a_growing_span_may_not_be_left_or_changed(transformer: Transformer) -> None:
    cache = transformer.empty_cache(1, 8)
    transformer(vectors(1, 2), cache)
    with pytest.raises(ValueError, match="the cache has 1 rows"):
        cache.branch(torch.tensor([[0], [0]]), 2)
    cache.branch(torch.tensor([[0, 0]]), 2)
    with pytest.raises(ValueError, match="2 spans that still grow"):
        cache.branch(torch.tensor([[0]]), 2)
    with pytest.raises(ValueError, match="and 2 growing spans"):
        transformer(vectors(1, 3), cache)
    for _ in range(2):
        transformer(vectors(1, 2), cache)
    with pytest.raises(ValueError, match="spans of 2 tokens"):
        cache.branch(torch.tensor([[0]]), 3)


def test_a_cache_refuses_other_rows_and_too_many_tokens(transformer: Transformer) -> None:
    cache = transformer.empty_cache(2, 4)
    with pytest.raises(ValueError, match="3 rows of 1 tokens up to slot 1 do not fit a cache of 2 rows"):
        transformer(vectors(3, 1), cache)
    with pytest.raises(ValueError, match="do not fit a cache of 2 rows, 4 slots"):
        transformer(vectors(2, 5), cache)


@pytest.mark.parametrize("pieces", [(12,), (1,) * 12, (5, 7), (5, 1, 4, 1, 1)])
def test_cached_forward_equals_uncached(transformer: Transformer, pieces: tuple[int, ...]) -> None:
    x = vectors(3, 12)
    cache = transformer.empty_cache(3, 12)
    cached = torch.cat([transformer(piece, cache) for piece in x.split(pieces, dim=1)], dim=1)
    assert cache.length == 12
    torch.testing.assert_close(cached, transformer(x), rtol=1e-5, atol=1e-5)


def test_no_token_sees_the_future(transformer: Transformer) -> None:
    x = vectors(2, 9)
    changed = x.clone()
    changed[:, 6] += 1
    before, after = transformer(x), transformer(changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@pytest.mark.parametrize("cached", [False, True])
def test_the_newest_token_alone_is_the_last_of_all(transformer: Transformer, cached: bool) -> None:
    y, cache = vectors(2, 8), transformer.empty_cache(2, 8) if cached else None
    x = y[:, :7]
    torch.testing.assert_close(transformer(x, cache, newest=True), transformer(x)[:, -1:], rtol=1e-5, atol=1e-5)
    if cache is not None:  # and nothing is missing from the cache
        torch.testing.assert_close(transformer(y[:, 7:], cache), transformer(y)[:, 7:], rtol=1e-5, atol=1e-5)


def test_cache_takes_the_autocast_type(transformer: Transformer) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        cache = transformer.empty_cache(1, 4)
        transformer(vectors(1, 3), cache)
        y = transformer(vectors(1, 1), cache)
    assert cache.keys.dtype == torch.bfloat16 and torch.isfinite(y).all()
