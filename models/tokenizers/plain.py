"""REM's and Simulus's encoder and decoder: convolutions without residual connections or attention.

Every level halves the frame and doubles the channels, and back. Of a "strided" stack (Simulus) a level is one
convolution, of a "plain" one (REM, whose checkpoints' names parameters have) two. Sources: arXiv 2402.05643, A.1; arXiv
2502.11537 with its code.
Shapes: B frames, C channels, H x W pixels, h x w grid.
"""

from torch import Tensor, nn

from models.blocks.layers import Downsample, Upsample, group_norm
from models.cpu.shortcuts import fastest_layout
from models.tokenizers.config import TokenizerConfig


class PlainEncoder(nn.Module):
    """Convolution; levels of norm, SiLU, strided convolution (and another); norm, SiLU, convolution."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths, groups = config.level_channels, config.norm_groups
        self.in_conv = nn.Conv2d(config.frame_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                group_norm(width, groups),
                nn.SiLU(),
                Downsample(width, factor, wider),
                *_second(config, wider),
            )
            for width, wider, factor in zip(widths[:-1], widths[1:], config.downsample, strict=True)
        )
        last = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)
        self.out_conv = nn.Sequential(group_norm(widths[-1], groups), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:  # (B, frame_channels, H, W) in [-1, 1] -> (B, z_channels, h, w)
        x = self.in_conv(fastest_layout(x))
        for block in self.blocks:
            x = block(x)
        return self.out_conv(x)


class PlainDecoder(nn.Module):
    """(Norm,) convolution; levels of norm, SiLU, enlargement, convolution (and another); norm, SiLU, convolution."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths, groups = config.decoder_channels, config.decoder_groups or config.norm_groups
        first = nn.Conv2d(config.z_channels, widths[0], 3, padding=1)
        normed = config.stack == "strided"
        self.in_conv = nn.Sequential(group_norm(config.z_channels, groups), first) if normed else first
        self.blocks = nn.ModuleList(
            nn.Sequential(
                group_norm(width, groups),
                nn.SiLU(),
                Upsample(width, factor, narrower),
                *_second(config, narrower),
            )
            for width, narrower, factor in zip(widths[:-1], widths[1:], reversed(config.downsample), strict=True)
        )
        last = nn.Conv2d(widths[-1], config.frame_channels, 3, padding=1)
        self.out_block = nn.Sequential(group_norm(widths[-1], groups), nn.SiLU(), last)

    def forward(self, z: Tensor) -> Tensor:  # (B, z_channels, h, w) -> (B, frame_channels, H, W), about [-1, 1]
        x = self.in_conv(fastest_layout(z))
        for block in self.blocks:
            x = block(x)
        return self.out_block(x)


def _second(config: TokenizerConfig, width: int) -> list[nn.Conv2d]:
    """The second convolution of a level, where it has one."""
    return [nn.Conv2d(width, width, 3, padding=1)] if config.stack == "plain" else []
