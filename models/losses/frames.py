"""Losses of single frames, as tokenizers learn them: pure functions, and a distance in a trained network's features.

Each is computed in float32 whatever the inputs' type. Shapes: B frames, C channels, H x W pixels, E embed_dim, K tokens
a frame, h x w places.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VGG_STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # VGG16's convolutions by number
VGG_CONVOLUTION = re.compile(r"(?:^|\.)(?:net\.slice\d|features)\.(\d+)\.(weight|bias)$")
VGG_WEIGHTING = re.compile(r"(?:^|\.)lin(\d)\.model\.\d\.weight$")
VGG_SHIFT, VGG_SCALE = (
    (-0.030, -0.088, -0.188),
    (0.458, 0.448, 0.450),
)  # of colours in [-1, 1], as the weights were learned


def reconstruction_l1(x: Tensor, x_hat: Tensor, weight: Tensor | None = None, mean: Tensor | None = None) -> Tensor:
    """mean w |x - x_hat| on the scale [-1, 1]: the reconstruction term of JOWA's tokenizer (2410.00564, appendix).

    x, x_hat: (B, 1, H, W) in [0, 1]; their difference is doubled, because the original compares what its networks see,
    2x - 1, and the weight of this term against `commitment` depends on it. weight: importance >= 0 of each pixel,
    broadcast to x's shape and divided by its mean, so that it moves the loss's attention and not its scale.
    mean: that of the weights of the whole batch, where these frames are a part of one.
    Raises ValueError where the shapes of x and x_hat differ.
    """
    if x.shape != x_hat.shape:
        raise ValueError(f"Frames {tuple(x.shape)} and reconstruction {tuple(x_hat.shape)} differ in shape")
    error = 2 * (x.float() - x_hat.float()).abs()
    if weight is None:
        return error.mean()
    weight = weight.float().expand_as(error)
    return (weight / (weight.mean() if mean is None else mean) * error).mean()


def reconstruction_l2(x: Tensor, x_hat: Tensor) -> Tensor:
    """mean (x - x_hat)^2 on the scale [-1, 1] of x, x_hat (B, C, H, W) in [0, 1]. ValueError where shapes differ."""
    if x.shape != x_hat.shape:
        raise ValueError(f"Frames {tuple(x.shape)} and reconstruction {tuple(x_hat.shape)} differ in shape")
    return 4 * (x.float() - x_hat.float()).square().mean()


def commitment(z: Tensor, z_q: Tensor, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """alpha mean (sg(z) - z_q)^2 + beta mean (z - sg(z_q))^2 (van den Oord et al. 2017, equation 3, terms 2 and 3).

    z, z_q: (B, E, h, w) latents and their codes. The first term moves the codes (nothing, for an EMA codebook, where
    it only adds its value), the second the encoder.
    """
    z, z_q = z.float(), z_q.float()
    return alpha * (z.detach() - z_q).square().mean() + beta * (z - z_q.detach()).square().mean()


def code_perplexity(tokens: Tensor, vocab: int) -> Tensor:
    """exp(entropy) of the tokens' frequencies: 1 where one code is used, `vocab` where all are used alike.

    tokens: integers of any shape. Returns a float32 scalar. Raises ValueError for a token outside 0..vocab-1.
    """
    if tokens.numel() == 0 or tokens.min() < 0 or tokens.max() >= vocab:
        raise ValueError(f"Perplexity needs tokens in 0..{vocab - 1}, and at least one")
    frequency_V = torch.bincount(tokens.flatten(), minlength=vocab).float() / tokens.numel()
    return torch.special.entr(frequency_V).sum().exp()


def motion_weight(frames_now: Tensor, background: Tensor, gain: float) -> Tensor:
    """1 + gain d / mean(d) with d = |frame - background|: weights for `reconstruction_l1` that favour what moves.

    A remedy of this project, not of the original: moving objects are about 1% of an Atari frame's pixels, so an
    unweighted tokenizer reaches a low loss by drawing the background alone. Dividing by the frame's mean difference
    gives what is off the background `gain` times the weight of the whole frame in every game, however faint or small
    its objects are (in Freeway d is a quarter of Boxing's).
    frames_now: (B, 1, H, W) in [0, 1]. background: (1, H, W) one game's, or (B, 1, H, W) each frame's, for instance the
    mean over a replay. Returns (B, 1, H, W) >= 1; all 1 where a frame is its background.
    """
    difference = (frames_now.float() - background.float()).abs()
    return 1 + gain * difference / difference.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)


class Lpips(nn.Module):
    """LPIPS: the distance of two pictures in the features of a trained VGG16 (Zhang et al. 2018, equation 1).

    The weights are not ours to ship: they are given as a state_dict, VGG16's 13 convolutions and five learned
    weightings, as the released JOWA tokenizers carry them (`lpips.*`) or as torchvision and the authors name them. They
    are frozen; gradients pass through to the pictures. A pair of frames costs about twice what JOWA's tokenizer needs
    to encode one.

    Raises ValueError that lists what is missing from `weights`, or where shapes do not follow one another.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        tensors = _by_role(weights)
        wanted = [f"conv{n}_{kind}" for stage in VGG_STAGES for n in stage for kind in ("weight", "bias")]
        wanted += [f"lin{stage}" for stage in range(len(VGG_STAGES))]
        if missing := [role for role in wanted if role not in tensors]:
            raise ValueError(f"These are no LPIPS weights of a VGG16: {', '.join(missing)} missing")
        _check_shapes(tensors)
        for role in wanted:
            self.register_buffer(role, tensors[role].float().clone(), persistent=False)
        self.register_buffer("shift", torch.tensor(VGG_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(VGG_SCALE)[:, None, None], persistent=False)

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
        for number, stage in enumerate(VGG_STAGES):
            if number:
                x = F.max_pool2d(x, 2)
            for n in stage:
                x = F.conv2d(x, self.get_buffer(f"conv{n}_weight"), self.get_buffer(f"conv{n}_bias"), padding=1).relu()
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found


def _by_role(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    roles: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if match := VGG_CONVOLUTION.search(name):
            roles[f"conv{match[1]}_{match[2]}"] = tensor
        elif match := VGG_WEIGHTING.search(name):
            roles[f"lin{match[1]}"] = tensor
    return roles


def _check_shapes(tensors: Mapping[str, Tensor]) -> None:
    channels = 3
    for number, stage in enumerate(VGG_STAGES):
        for n in stage:
            weight, bias = tensors[f"conv{n}_weight"], tensors[f"conv{n}_bias"]
            if weight.shape != (len(bias), channels, 3, 3) or bias.ndim != 1:
                raise ValueError(f"LPIPS convolution {n} is {tuple(weight.shape)}: it follows {channels} channels")
            channels = len(bias)
        if tensors[f"lin{number}"].shape != (1, channels, 1, 1):
            shape = tuple(tensors[f"lin{number}"].shape)
            raise ValueError(f"LPIPS weighting {number} is {shape}: it must be (1, {channels}, 1, 1)")
