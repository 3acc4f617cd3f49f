"""Encoders and decoders of frames: plain convolutions (DreamerV2), or stages of residual layers (APV, PreLAR).

Frames go in as numbers around 0 (a byte / 255 - 0.5) and come out so. Sources: arXiv 2010.02193, arXiv 2203.13880.

Shapes: n frames of C channels and R x R pixels, W channels of a stage; E numbers of an embedded frame, Z of a feature.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.rssm.config import FramesConfig

PLAIN_KERNELS, DRAWN_KERNELS = (4, 4, 4, 4), (5, 5, 6, 6)


class PlainEncoder(nn.Module):
    """Four convolutions that halve: (n, 3, 64, 64) -> (n, E)."""

    def __init__(self, config: FramesConfig) -> None:
        super().__init__()
        widths = (3, *(config.channels << place for place in range(len(PLAIN_KERNELS))))
        self.convs = nn.ModuleList(
            nn.Conv2d(seen, width, kernel, stride=2)
            for (seen, width), kernel in zip(pairwise(widths), PLAIN_KERNELS, strict=True)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(n, 3, 64, 64) -> (n, E)."""
        for conv in self.convs:
            frames = F.elu(conv(frames))
        return frames.flatten(1)


class PlainDecoder(nn.Module):
    """A linear layer, then four transposed convolutions: (n, Z) -> (n, 3, 64, 64)."""

    def __init__(self, config: FramesConfig, feature: int) -> None:
        super().__init__()
        first = config.channels << (len(DRAWN_KERNELS) + 1)
        widths = (first, *(config.channels << place for place in range(len(DRAWN_KERNELS) - 2, -1, -1)), 3)
        self.inward = nn.Linear(feature, first)
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(seen, width, kernel, stride=2)
            for (seen, width), kernel in zip(pairwise(widths), DRAWN_KERNELS, strict=True)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(n, Z) -> (n, 3, 64, 64)."""
        x = self.inward(features)[..., None, None]
        for place, conv in enumerate(self.convs):
            x = conv(x if place == 0 else F.elu(x))
        return x


class ResidualLayer(nn.Module):
    """Two convolutions of 3 x 3 with batch norms beside a way past them: (n, W, R, R) -> (n, V, R, R)."""

    def __init__(self, seen: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(seen, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.past: nn.Conv2d | None = None
        if seen != width:
            self.past = nn.Conv2d(seen, width, 1, bias=False)
            self.past_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, read: Tensor | None = None) -> Tensor:
        """See the class. read: what the convolutions read, where it is not what goes past them."""
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x if read is None else read)))))
        return F.relu((x if self.past is None else self.past_norm(self.past(x))) + inner)


class Stage(nn.Module):
    """Residual layers of one size, of which one, the first or the last, changes the channels."""

    def __init__(self, seen: int, width: int, layers: int, changes_last: bool) -> None:
        super().__init__()
        change = layers - 1 if changes_last else 0
        self.layers = nn.ModuleList(
            ResidualLayer(seen if place <= change else width, width if place >= change else seen)
            for place in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, W, R, R) -> (n, V, R, R)."""
        for layer in self.layers:
            x = layer(x)
        return x


class Trunk(nn.Module):
    """A convolution that halves, then stages, behind each of which the sides are halved: (n, C, R, R) -> (n, E)."""

    def __init__(self, config: FramesConfig, channels: int = 3) -> None:
        super().__init__()
        self.convin = nn.Conv2d(channels, config.channels, 3, stride=2, padding=1)
        widths = (config.channels, *config.widths)
        self.stages = nn.ModuleList(
            Stage(seen, width, config.layers, changes_last=False) for seen, width in pairwise(widths)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(n, C, R, R) -> (n, E)."""
        return self.read(frames)[0]

    def read(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embedded frames (n, E), and what each stage saw, largest first: (n, W, R, R)."""
        x, seen = F.elu(self.convin(colours_last(frames))), []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
            x = F.avg_pool2d(x, 2)
        return x.flatten(1), seen


class ResnetDecoder(nn.Module):
    """A linear layer, stages before each of which the sides are doubled, a last convolution: (n, Z) -> (n, 3, R, R)."""

    def __init__(self, config: FramesConfig, feature: int) -> None:
        super().__init__()
        self.config = config
        self.inward = nn.Linear(feature, config.embedded)
        widths = (*reversed(config.widths), config.channels // 2)
        self.stages = nn.ModuleList(
            Stage(seen, width, config.layers, changes_last=True) for seen, width in pairwise(widths)
        )
        self.outward = nn.ConvTranspose2d(widths[-1], 3, 3, stride=2, padding=1, output_padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(n, Z) -> (n, 3, R, R)."""
        x = self.begin(features)
        for stage in self.stages:
            x = stage(doubled(x))
        return self.outward(x)

    def begin(self, features: Tensor) -> Tensor:
        """What the first stage begins with, (n, W, r, r)."""
        return colours_last(self.inward(features).unflatten(1, (self.config.widths[-1], self.config.least_side, -1)))


def colours_last(x: Tensor) -> Tensor:
    """The same numbers (n, W, R, R), with those of a pixel side by side in memory: convolutions are faster so."""
    return x.contiguous(memory_format=torch.channels_last)


def doubled(x: Tensor) -> Tensor:
    """Every place four times: (n, W, R, R) -> (n, W, 2 R, 2 R)."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
