"""One kernel in place of two changes nothing but rounding, at the edges above all."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.blocks.composed import ComposedDownsample


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
    inner, outer = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 8, stride=7)
    skip, h = torch.randn(2, 1, 8, 84, 84)
    with torch.no_grad():
        exact = outer(F.pad(skip + inner(h), (0, 1, 0, 1)))
        with torch.autocast("cpu", torch.bfloat16):
            two = outer(F.pad(skip.bfloat16() + inner(h), (0, 1, 0, 1)))
            one = ComposedDownsample(inner, outer)(skip.bfloat16(), h.bfloat16())
    errors = [(found.float() - exact).abs().mean() for found in (one, two)]
    assert errors[0] < 1.5 * errors[1]
