"""POP on attention: textbook attention by hand, training and imagination alike, and nothing seen that must not be."""

import math

import pytest
import torch
from torch import Tensor

from models.blocks.pop_attention import PopTransformer, attend, turned, visible

N, T, K, D = 2, 4, 3, 16  # rows, blocks of K tokens and an action, width
C = K + 1


def made(seed: int = 0) -> tuple[PopTransformer, Tensor, Tensor]:
    """A network in float64 whose every weight is drawn, blocks (N, T * C, D), prediction tokens (K, D)."""
    draws = torch.Generator().manual_seed(seed)
    net = PopTransformer(2, 2, D, 0.0).double().eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.4, generator=draws)
    x, table = (torch.randn(shape, generator=draws, dtype=torch.float64) for shape in ((N, T * C, D), (K, D)))
    return net, x, table


def test_a_turn_keeps_lengths_and_products_depend_on_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 5, 8, dtype=torch.float64).unbind(0)
    at = torch.arange(5)
    assert torch.allclose(turned(q, at).norm(dim=-1), q.norm(dim=-1))
    assert torch.allclose(turned(turned(q, at), -at), q)
    near, far = (turned(q, at + shift) @ turned(k, at + shift + 2).mT for shift in (0, 40))
    assert torch.allclose(near, far)
    assert turned(torch.eye(4).view(1, 1, 4, 4), torch.tensor([1]))[0, 0, 0].tolist() == pytest.approx(
        [math.cos(1), 0, math.sin(1), 0]
    )


def test_attention_is_a_softmax_over_what_is_visible() -> None:
    q, k, v = torch.randn(3, 1, 1, 6, 4, dtype=torch.float64).unbind(0)
    for at in (torch.arange(6), torch.tensor([1, 4])):
        scores = q[:, :, : len(at)] @ k.mT / 2
        plain = scores.masked_fill(~visible(at, 6), -torch.inf).softmax(-1) @ v
        assert torch.allclose(attend(q[:, :, : len(at)], k, v, at), plain)


@torch.no_grad()
@pytest.mark.parametrize("ends_only", [False, True])
def test_a_pass_over_segments_is_what_a_run_after_each_block_says(ends_only: bool) -> None:
    net, x, table = made()
    whole = net.read(x, None, C, table.expand(N, T + 1, -1, -1), slice(0, T + 1), ends_only)
    cache = net.empty_cache(N, T * C + K)
    for block in range(T):
        alone = net.read(x[:, : block * C], predict=table.expand(N, 1, -1, -1), behind=slice(1, 2)) if block else None
        tokens = x[:, block * C : (block + 1) * C]
        fused = net.read(tokens, cache, predict=table.expand(N, 1, -1, -1), behind=slice(1, 2))
        assert cache.length == (block + 1) * C
        assert torch.allclose(fused.predicted_NMPD[:, 0], whole.predicted_NMPD[:, block + 1], atol=1e-12)
        if alone is not None:
            assert torch.allclose(alone.predicted_NMPD[:, 0], whole.predicted_NMPD[:, block], atol=1e-12)
    plain = net.read(x).outputs_NLD
    assert torch.allclose(whole.outputs_NLD, plain[:, C - 1 :: C] if ends_only else plain, atol=1e-12)
    two = PopTransformer.read(net, x[:, :C], None, C, table.expand(N, 2, -1, -1), slice(0, 2))
    assert torch.allclose(two.predicted_NMPD, whole.predicted_NMPD[:, :2], atol=1e-12)


@torch.no_grad()
def test_runs_behind_several_blocks_that_continue_a_cache() -> None:
    net, x, table = made(1)
    whole = net.read(x, None, C, table.expand(N, T + 1, -1, -1), slice(0, T + 1))
    cache = net.empty_cache(N, T * C)
    net.read(x[:, : 2 * C], cache)
    rest = net.read(x[:, 2 * C :], cache, C, table.expand(N, 2, -1, -1), slice(0, 2))
    assert torch.allclose(rest.predicted_NMPD, whole.predicted_NMPD[:, 2:4], atol=1e-12)
    assert torch.allclose(rest.outputs_NLD, whole.outputs_NLD[:, 2 * C :], atol=1e-12)


def test_nothing_sees_predictions_the_future_or_another_run() -> None:
    net, x, table = made(2)
    x, predict = x.requires_grad_(), table.expand(N, T + 1, -1, -1).clone().requires_grad_()
    read = net.read(x, None, C, predict, slice(0, T + 1))
    for run in (0, 2, T):
        seen, own = torch.autograd.grad(read.predicted_NMPD[0, run, 1].sum(), (x, predict), retain_graph=True)
        touched = seen[0].abs().sum(-1) > 0
        assert touched.tolist() == [token < run * C for token in range(T * C)]
        expected = torch.zeros(T + 1, K, dtype=torch.bool)
        expected[run, :2] = True
        assert torch.equal(own[0].abs().sum(-1) > 0, expected)
    (own,) = torch.autograd.grad(read.outputs_NLD.sum(), (predict,))
    assert not own.any()


def test_what_does_not_fit_is_refused() -> None:
    net, x, _ = made()
    with pytest.raises(ValueError, match="16 tokens do not divide into blocks of 5: give whole blocks"):
        net.read(x, block=5)
    with pytest.raises(ValueError, match="do not fit a cache of 2 rows, 9 slots"):
        net.read(x, net.empty_cache(N, 9))
