"""The tokenizer's decoder: grid of latents -> frame. Shapes: B frames, C channels, H x W pixels, h x w grid."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.convolution import Level, Middle, Upsample, fastest_layout, group_norm
from models.tokenizers.config import TokenizerConfig


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
