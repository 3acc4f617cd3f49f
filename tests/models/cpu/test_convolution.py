"""A finest level in pieces and one kernel in place of two change nothing but rounding, at the edges above all."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.blocks.convolution import Downsample, Level, initialise_orthogonal
from models.cpu import convolution, shortcuts
from models.cpu.convolution import ENOUGH, ComposedDownsample, fastest_layout, finest_level


@pytest.mark.parametrize(("stride", "height", "width"), [(7, 84, 84), (2, 6, 10), (3, 3, 9), (1, 4, 4)])
def test_it_is_both_convolutions(stride: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    inner = nn.Conv2d(5, 6, 3, padding=1).double()
    outer = nn.Conv2d(6, 4, stride + 1, stride=stride).double()
    skip, h = (torch.randn(2, channels, height, width, dtype=torch.float64) for channels in (6, 5))
    with torch.no_grad():
        expected = outer(F.pad(skip + inner(h), (0, 1, 0, 1)))
        torch.testing.assert_close(ComposedDownsample(inner, outer)(skip, h), expected, atol=1e-12, rtol=1e-12)


def test_under_autocast_it_rounds_no_more_than_the_two() -> None:
    torch.manual_seed(0)
    # Below 16 channels both would be noise on processors with AMX (torch 2.13).
    inner, outer = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 8, stride=7)
    skip, h = torch.randn(2, 1, 16, 84, 84)
    with torch.no_grad():
        exact = outer(F.pad(skip + inner(h), (0, 1, 0, 1)))
        with torch.autocast("cpu", torch.bfloat16):
            two = outer(F.pad(skip.bfloat16() + inner(h), (0, 1, 0, 1)))
            one = ComposedDownsample(inner, outer)(skip.bfloat16(), h.bfloat16())
    errors = [(found.float() - exact).abs().mean() for found in (one, two)]
    assert errors[0] < 1.5 * errors[1]


@pytest.mark.parametrize("frames", [1, ENOUGH + 3])
def test_the_finest_level_is_plain_with_gradients_or_by_the_switch_and_else_the_same(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "IN_CACHE", 1 << 20)  # pieces of a few frames
    conv_in, level = nn.Conv2d(1, 8, 3, padding=1), Level(8, 8, blocks=2, groups=2)
    level.downsample = Downsample(8, 7)
    for module in (conv_in, level):
        initialise_orthogonal(module, torch.Generator().manual_seed(0))
    x = torch.randn(frames, 1, 84, 84, generator=torch.Generator().manual_seed(1))
    plain = level(conv_in(x))
    assert torch.equal(finest_level(conv_in, level, x), plain)
    with torch.no_grad():
        torch.testing.assert_close(finest_level(conv_in, level, x), plain, atol=1e-5, rtol=1e-5)
        with shortcuts.off():
            assert torch.equal(finest_level(conv_in, level, x), level(conv_in(x)))


def test_only_bfloat16_on_a_cpu_has_its_channels_last() -> None:
    x = torch.randn(2, 1, 4, 4)
    assert fastest_layout(x) is x
    with torch.autocast("cpu", torch.bfloat16):
        moved = fastest_layout(x)
        assert torch.equal(moved, x) and moved.stride() == (16, 1, 4, 1)
        with shortcuts.off():
            assert fastest_layout(x) is x
