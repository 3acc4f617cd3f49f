"""The tokenizer's encoder: frame -> grid of latents. Shapes: B frames, C channels, H x W pixels, h x w grid."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.convolution import Downsample, Level, Middle, fastest_layout, group_norm
from models.tokenizers.config import TokenizerConfig


class Encoder(nn.Module):
    """Strided residual network (JOWA, section 3.1; the shape of VQ-GAN's encoder)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths, groups = config.level_channels, config.norm_groups
        self.patch_stem = config.patch_stem
        self.conv_in = nn.Conv2d(config.patch_stem**2, config.channels, 3, padding=1)
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

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, H, W) in [-1, 1] -> (B, z_channels, h, w)
        x = fastest_layout(self.conv_in(F.pixel_unshuffle(x, self.patch_stem)))
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))
