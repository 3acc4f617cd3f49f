import pytest
import torch

from models.blocks.transformer import Transformer


@pytest.fixture
def transformer() -> Transformer:
    torch.manual_seed(0)
    return Transformer(layers=2, heads=2, width=8, dropout=0.1).eval()


def vectors(rows: int, length: int) -> torch.Tensor:
    return torch.randn(rows, length, 8, generator=torch.Generator().manual_seed(1))


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
