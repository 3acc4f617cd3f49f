"""Delta-IRIS's convolutions: a frame to a grid of latents, and such a grid back to a frame (arXiv 2406.19320, A.1).

A level is a residual block, which a convolution of stride 2 halves where the config says; the decoder mirrors it.
Shapes: N frames, C channels of R x R pixels, E latents on a grid of g x g.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.layers import ResidualBlock, Upsample, group_norm
from models.cpu.shortcuts import fastest_layout, frames_in_cache, taken
from models.delta_iris.config import EncoderConfig, StackConfig

AT_ONCE = 64  # frames that go through a network together where nothing learns, away from a CPU
EPS = 1e-5  # of group norms: PyTorch's default, as the original


class Halve(nn.Module):
    """A 2x2 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, C, H/2, W/2)
        return self.conv(x)


def _end(channels: int, groups: int, channels_out: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Norm, SiLU and the last convolution."""
    return group_norm(channels, groups, EPS), nn.SiLU(), nn.Conv2d(channels, channels_out, 3, padding=1)


class FrameEncoder(nn.Module):
    """`channels_in`: of frames, with whatever lies beside them."""

    def __init__(self, config: EncoderConfig, channels_in: int) -> None:
        super().__init__()
        self.patch_stem = config.patch_stem
        layers: list[nn.Module] = [nn.Conv2d(channels_in * config.patch_stem**2, config.channels, 3, padding=1)]
        for (entering, width), down in zip(pairwise((config.channels, *config.widths)), config.down, strict=True):
            layers.append(ResidualBlock(entering, width, config.norm_groups, EPS))
            layers += [Halve(width)] * down
        self.encoder = nn.Sequential(*layers, *_end(config.widths[-1], config.norm_groups, config.latent))

    def forward(self, frames: Tensor) -> Tensor:  # (N, C, R, R) in [0, 1] -> (N, E, g, g)
        return self.encoder(fastest_layout(F.pixel_unshuffle(frames, self.patch_stem)))


class FrameDecoder(nn.Module):
    """`latent_in`: channels of the grid. Frames of `channels_out` come out about [0, 1], not clipped."""

    def __init__(self, config: StackConfig, latent_in: int, channels_out: int) -> None:
        super().__init__()
        self.patch_stem = config.patch_stem
        layers: list[nn.Module] = [nn.Conv2d(latent_in, config.widths[-1], 3, padding=1)]
        levels = list(zip(pairwise((config.channels, *config.widths)), config.down, strict=True))
        for (leaving, width), down in reversed(levels):
            layers += [Upsample(width, 2)] * down
            layers.append(ResidualBlock(width, leaving, config.norm_groups, EPS))
        last = channels_out * config.patch_stem**2
        self.decoder = nn.Sequential(*layers, *_end(config.channels, config.norm_groups, last))

    def forward(self, latents: Tensor) -> Tensor:  # (N, E, g, g) -> (N, C, R, R)
        return F.pixel_shuffle(self.decoder(fastest_layout(latents)), self.patch_stem)


def pieces(frames: Tensor, config: StackConfig) -> Iterator[slice]:
    """Parts of frames (N, C, R, R) that go through such a network, or come out of it, together where nothing learns."""
    finest = config.channels * (frames.shape[2] // config.patch_stem) * (frames.shape[3] // config.patch_stem)
    at_once = frames_in_cache(finest) if taken(frames) else AT_ONCE
    return (slice(first, first + at_once) for first in range(0, len(frames), at_once))


class Flat(nn.Module):
    """A grid as one vector, place by place, a place's channels together."""

    def forward(self, latents: Tensor) -> Tensor:  # (N, E, g, g) -> (N, g * g * E)
        return latents.permute(0, 2, 3, 1).flatten(1)
