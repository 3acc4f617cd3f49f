"""Convolutional networks on a CPU: a layout for bfloat16, and the finest level of an encoder that does not learn.

A full-resolution layer of a batch is larger than a processor's cache, so frames go through the finest level in pieces.
There a residual block's last convolution, before one of stride s, makes s^2 outputs for each one that is wanted. Both
are linear, so one kernel does both.

Shapes: B frames, C channels (I in, M between, O out), H x W pixels.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cpu import shortcuts

IN_CACHE = 4 << 20  # bytes of a full-resolution layer that stay in a processor's cache
ENOUGH = 8  # frames of which each is quicker by a fraction of what composing kernels for all takes


def fastest_layout(x: Tensor) -> Tensor:
    """The same (B, C, H, W), channels last where bfloat16 autocast is on and the device is a CPU.

    Not in float32: PyTorch's channels-last GroupNorm sums squares plainly, which moved a recorded tokenizer's latents
    by 1.2e-4 of the largest. That drowns in bfloat16's rounding, but float32 is there to be exact.
    """
    if not shortcuts.taken(x) or not torch.is_autocast_enabled("cpu"):
        return x
    # With one channel `contiguous` would change nothing, and a convolution take the strides for the other layout.
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


def finest_level(conv_in: nn.Conv2d, level: nn.Module, x: Tensor) -> Tensor:
    """`level(conv_in(x))`, of an encoder's first `blocks.convolution.Level`: (B, C, H, W) -> (B, O, H / s, W / s)."""
    if torch.is_grad_enabled() or not shortcuts.taken(x):
        return level(conv_in(x))
    finest = _composed(level) if len(x) >= ENOUGH else level
    bytes_each = conv_in.out_channels * x.shape[2] * x.shape[3] * (2 if torch.is_autocast_enabled("cpu") else 4)
    return torch.cat([finest(conv_in(part)) for part in x.split(max(1, IN_CACHE // bytes_each))])


class _ResidualBlock(Protocol):
    """What is used of `blocks.convolution.ResidualBlock`: nin_shortcut(x) + conv2(hidden(x))."""

    nin_shortcut: nn.Module
    conv2: nn.Conv2d

    def __call__(self, x: Tensor) -> Tensor: ...

    def hidden(self, x: Tensor) -> Tensor: ...


def _composed(level: nn.Module) -> Callable[[Tensor], Tensor]:
    """`level` for weights as they are now, where it has no attention and ends in a downsample."""
    assert not level.attn, "the finest level of an encoder has no attention"
    *before, last = cast("Sequence[_ResidualBlock]", level.block)
    downsample = ComposedDownsample(last.conv2, cast("nn.Conv2d", cast("nn.Module", level.downsample).conv))

    def forward(x: Tensor) -> Tensor:
        for block in before:
            x = block(x)
        return downsample(last.nin_shortcut(x), last.hidden(x))

    return forward


class ComposedDownsample:
    """`outer(pad(skip + inner(h)))` with the weights as they are now and no gradients.

    `inner` is a 3x3 convolution of padding 1. `outer` has stride s and kernel s + 1; the padding is one row and column
    of zeros on the bottom and right, and s divides H and W. The composed kernel sees there what `inner` would make
    beyond the edge, so those strips are subtracted, and their corner, subtracted twice, is added.
    """

    def __init__(self, inner: nn.Conv2d, outer: nn.Conv2d) -> None:
        self.inner, self.outer = inner, outer
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else outer.weight.dtype
        first, second = inner.weight.detach(), outer.weight.detach()  # (M, I, 3, 3), (O, M, s + 1, s + 1)
        with torch.autocast("cpu", enabled=False):
            self.kernel, self.bottom, self.right, self.corner = (
                F.conv_transpose2d(of_second, of_first).to(cast)  # (O, I, ...)
                for of_second, of_first in (
                    (second, first),
                    (second[:, :, -1:], first[:, :, :1]),
                    (second[..., -1:], first[..., :1]),
                    (second[..., -1:, -1:], first[..., :1, :1]),
                )
            )

    def __call__(self, skip: Tensor, h: Tensor) -> Tensor:
        """(B, M, H, W), (B, I, H, W) -> (B, O, H / s, W / s)."""
        assert self.inner.bias is not None
        bias = self.inner.bias.to(skip.dtype)[:, None, None]
        y = self.outer(F.pad(skip + bias, (0, 1, 0, 1)))
        y += self._strided(h, self.kernel, (1, 2, 1, 2))
        y[:, :, -1:] -= self._strided(h[:, :, -1:], self.bottom, (1, 2, 0, 0))
        y[..., -1:] -= self._strided(h[..., -1:], self.right, (0, 0, 1, 2))
        y[..., -1:, -1:] += self._strided(h[..., -1:, -1:], self.corner, (0, 0, 0, 0))
        return y

    def _strided(self, h: Tensor, kernel: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
        return F.conv2d(F.pad(h, padding), kernel, stride=self.outer.stride)
