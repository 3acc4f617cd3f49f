import pytest
import torch
from torch import nn

from models.blocks.convolution import (
    Downsample,
    Level,
    ResidualBlock,
    SpatialAttention,
    Upsample,
    initialise_orthogonal,
)


def test_downsample_pads_right_and_bottom_only() -> None:
    down = Downsample(1, stride=2)
    nn.init.ones_(down.conv.weight)
    nn.init.zeros_(down.conv.bias)
    out = down(torch.arange(16.0).view(1, 1, 4, 4))
    # 3x3 sums at rows and columns 0 and 2; the last column and row reach one past the frame, into zeros.
    assert out.tolist() == [[[[45.0, 39.0], [66.0, 50.0]]]]


@pytest.mark.parametrize(("side", "stride"), [(84, 7), (12, 2), (42, 7), (12, 3)])
def test_down_and_up_are_exact_multiples(side: int, stride: int) -> None:
    x = torch.zeros(1, 2, side, side)
    small = Downsample(2, stride)(x)
    assert small.shape == (1, 2, side // stride, side // stride)
    assert Upsample(2, stride)(small).shape == x.shape


def test_residual_block_is_the_identity_when_its_last_convolution_is_zero() -> None:
    block = ResidualBlock(4, 4, groups=2)
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x)
    assert ResidualBlock(4, 6, groups=2)(x).shape == (2, 6, 5, 5)


def test_attention_mixes_positions_as_written_out() -> None:
    attention = SpatialAttention(4, groups=2)
    initialise_orthogonal(attention, torch.Generator().manual_seed(1))
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    h = attention.norm(x)
    q, k, v = (layer(h).flatten(2) for layer in (attention.q, attention.k, attention.v))  # (B, C, N)
    shares = torch.softmax(torch.einsum("bcn,bcm->bnm", q, k) / 4**0.5, dim=-1)
    expected = x + attention.proj_out(torch.einsum("bnm,bcm->bcn", shares, v).view_as(x))
    torch.testing.assert_close(attention(x), expected)


def test_initialisation_is_orthogonal_with_relu_gain_and_follows_its_generator() -> None:
    levels = [Level(4, 4, blocks=1, groups=2, attention=True) for _ in range(2)]
    for level in levels:
        initialise_orthogonal(level, torch.Generator().manual_seed(3))
    weight = levels[0].attn[0].q.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(4), atol=1e-5, rtol=0)
    assert not levels[0].block[0].conv1.bias.any()
    for ours, theirs in zip(levels[0].parameters(), levels[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)
