"""Convolutional building blocks of the tokenizers: residual block, spatial attention, strided down, nearest up.

Shapes: B frames, C channels, H x W pixels. Parameter names are those of released VQ-GAN style checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm over `groups` groups with the eps of the released checkpoints."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


def initialise_orthogonal(module: nn.Module, generator: torch.Generator) -> None:
    """Set every convolution and linear layer below `module` to an orthogonal matrix (gain of ReLU) and zero bias."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"), generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1x1 convolution on the skip where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in, groups)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = group_norm(channels_out, groups)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.nin_shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, Cin, H, W) -> (B, Cout, H, W)
        return self.nin_shortcut(x) + self.conv2(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:  # (B, Cin, H, W) -> (B, Cout, H, W), what the last convolution reads
        return F.silu(self.norm2(self.conv1(F.silu(self.norm1(x)))))


class SpatialAttention(nn.Module):
    """x + proj(attention over the H*W positions), one head of width C."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT[:, None] for layer in (self.q, self.k, self.v))  # (B, 1, H*W, C)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(h[:, 0].mT.unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    """Strided convolution; one column and row of zeros on the right and bottom make H divide exactly by `stride`."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, stride + 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H/stride, W/stride)
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour enlargement, then a 3x3 convolution."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = float(factor)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, factor*H, factor*W)
        return self.conv(F.interpolate(x, scale_factor=self.factor, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one resolution, each followed by attention if asked."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int, groups: int, attention: bool = False) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(ResidualBlock(widths[i], channels_out, groups) for i in range(blocks))
        self.attn = nn.ModuleList(SpatialAttention(channels_out, groups) for _ in range(blocks if attention else 0))
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, Cin, H, W) -> (B, Cout, H', W')
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return self.upsample(self.downsample(x))


class Middle(nn.Module):
    """Residual block, attention if asked, residual block, at the coarsest resolution."""

    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.attn_1 = SpatialAttention(channels, groups) if attention else nn.Identity()
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.block_2(self.attn_1(self.block_1(x)))
