"""LPIPS: the distance of two pictures in the features of a trained VGG16 (Zhang et al. 2018, arXiv 1801.03924, eq. 1).

The weights are not ours to ship: they are given as a state_dict, VGG16's 13 convolutions and five learned weightings,
as the released JOWA tokenizers carry them (`lpips.*`) or as torchvision and the authors name them. A pair of
frames costs about twice what JOWA's tokenizer needs to encode one.
Shapes: B frames, C channels, h x w places.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # VGG16's convolutions by number
CONVOLUTION = re.compile(r"(?:^|\.)(?:net\.slice\d|features)\.(\d+)\.(weight|bias)$")
WEIGHTING = re.compile(r"(?:^|\.)lin(\d)\.model\.\d\.weight$")
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of colours in [-1, 1], as the weights were learned


class Lpips(nn.Module):
    """The distance. Its weights are frozen; gradients pass through to the pictures.

    Raises ValueError that lists what is missing from `weights`, or where shapes do not follow one another.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        tensors = _by_role(weights)
        wanted = [f"conv{n}_{kind}" for stage in STAGES for n in stage for kind in ("weight", "bias")]
        wanted += [f"lin{stage}" for stage in range(len(STAGES))]
        if missing := [role for role in wanted if role not in tensors]:
            raise ValueError(f"These are no LPIPS weights of a VGG16: {', '.join(missing)} missing")
        _check_shapes(tensors)
        for role in wanted:
            self.register_buffer(role, tensors[role].float().clone(), persistent=False)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean distance, a float32 scalar, of x and y (B, 1, H, W) or (B, 3, H, W) in [0, 1].

        sum over stages of mean over places of sum_c w_c (x_c - y_c)^2, where features have unit length at each place.
        """
        with torch.autocast(x.device.type, enabled=False):
            features = zip(self._features(x.float()), self._features(y.float()), strict=True)
            stages = [
                F.conv2d((x_BChw - y_BChw).square(), getattr(self, f"lin{stage}")).mean()
                for stage, (x_BChw, y_BChw) in enumerate(features)
            ]
            return torch.stack(stages).sum()

    def _features(self, frames: Tensor) -> list[Tensor]:
        """Features of unit length after each stage: (B, C, h, w)."""
        x = (2 * frames.expand(-1, 3, -1, -1) - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        found = []
        for number, stage in enumerate(STAGES):
            if number:
                x = F.max_pool2d(x, 2)
            for n in stage:
                x = F.conv2d(x, self.get_buffer(f"conv{n}_weight"), self.get_buffer(f"conv{n}_bias"), padding=1).relu()
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found


def _by_role(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    roles: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if match := CONVOLUTION.search(name):
            roles[f"conv{match[1]}_{match[2]}"] = tensor
        elif match := WEIGHTING.search(name):
            roles[f"lin{match[1]}"] = tensor
    return roles


def _check_shapes(tensors: Mapping[str, Tensor]) -> None:
    channels = 3
    for number, stage in enumerate(STAGES):
        for n in stage:
            weight, bias = tensors[f"conv{n}_weight"], tensors[f"conv{n}_bias"]
            if weight.shape != (len(bias), channels, 3, 3) or bias.ndim != 1:
                raise ValueError(f"LPIPS convolution {n} is {tuple(weight.shape)}: it follows {channels} channels")
            channels = len(bias)
        if tensors[f"lin{number}"].shape != (1, channels, 1, 1):
            shape = tuple(tensors[f"lin{number}"].shape)
            raise ValueError(f"LPIPS weighting {number} is {shape}: it must be (1, {channels}, 1, 1)")
