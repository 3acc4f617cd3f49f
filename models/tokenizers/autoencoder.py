"""The tokenizer's two networks: the encoder makes a grid of latents of a frame, the decoder a frame of such a grid.

Shapes: B frames, C channels, H x W pixels, h x w grid. Source: JOWA, arXiv 2410.00564, section 3.1.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.convolution import Downsample, Level, Middle, Upsample, group_norm
from models.cpu.convolution import fastest_layout, finest_level
from models.tokenizers.config import TokenizerConfig


class Encoder(nn.Module):
    """Strided residual network (JOWA, section 3.1; the shape of VQ-GAN's encoder)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths, groups = config.level_channels, config.norm_groups
        self.patch_stem = config.patch_stem
        self.conv_in = nn.Conv2d(config.frame_channels * config.patch_stem**2, config.channels, 3, padding=1)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            entering = config.channels if level == 0 else widths[level - 1]
            stage = Level(entering, width, config.res_blocks, groups, attention=config.attention and level > 0)
            if level < len(config.downsample):
                stage.downsample = Downsample(width, config.downsample[level])
            self.down.append(stage)
        self.mid = Middle(widths[-1], groups, config.attention)
        self.norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, frame_channels, H, W) in [-1, 1] -> (B, z_channels, h, w)
        x = fastest_layout(F.pixel_unshuffle(x, self.patch_stem))
        x = finest_level(self.conv_in, self.down[0], x)  # down[0](conv_in(x))
        for level in self.down[1:]:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Mirror of the encoder with one residual block more a level and attention in the middle only (JOWA, section 3.1).

    The factors come in the order of `downsample` (7, then 2), not reversed: the released checkpoints do so.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths, groups = config.level_channels, config.norm_groups
        self.patch_stem = config.patch_stem
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups, config.attention)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            entering = widths[min(level + 1, len(widths) - 1)]
            stage = Level(entering, width, config.res_blocks + 1, groups)
            if level > 0:
                stage.upsample = Upsample(width, config.downsample[len(config.downsample) - level])
            self.up.append(stage)
        self.norm_out = group_norm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], config.frame_channels * config.patch_stem**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:  # (B, z_channels, h, w) -> (B, frame_channels, H, W), about [-1, 1]
        x = self.mid(self.conv_in(fastest_layout(z)))
        for level in reversed(self.up):
            x = level(x)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.patch_stem)
