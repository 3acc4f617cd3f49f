import pytest
import torch

from models.blocks.transformer import KVCache, Transformer


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


def test_gathered_rows_continue_as_if_they_had_been_alone(transformer: Transformer) -> None:
    x, rows = vectors(3, 8), torch.tensor([2, 0, 2, 2])
    cache = transformer.empty_cache(3, 8)
    transformer(x[:, :5], cache)
    gathered = cache.gather(rows)
    torch.testing.assert_close(transformer(x[rows, 5:], gathered), transformer(x[rows])[:, 5:], rtol=1e-5, atol=1e-5)
    assert cache.length == 5 and gathered.length == 8  # the source is as it was


def test_a_cache_refuses_other_rows_and_too_many_tokens(transformer: Transformer) -> None:
    cache = transformer.empty_cache(2, 4)
    with pytest.raises(ValueError, match="3 rows up to token 1 do not fit a cache of 2 rows"):
        transformer(vectors(3, 1), cache)
    with pytest.raises(ValueError, match="do not fit a cache of 2 rows and 4 tokens"):
        transformer(vectors(2, 5), cache)


def test_cache_takes_the_autocast_type(transformer: Transformer) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        cache: KVCache = transformer.empty_cache(1, 4)
        transformer(vectors(1, 3), cache)
        y = transformer(vectors(1, 1), cache)
    assert cache.keys.dtype == torch.bfloat16 and torch.isfinite(y).all()
