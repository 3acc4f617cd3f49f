"""Finite scalar quantisation: every number of a latent is rounded to one of few levels (Mentzer et al. 2023).

There is no codebook to learn and none that could fall out of use: a token is the latent's levels read as one number,
the first dimension least significant. Source: arXiv 2309.15505, as Simulus takes it (levels 8, 8, 8 make 512 tokens).

Shapes: B frames, F numbers of a latent (one a list of levels), h x w grid, K = h*w tokens a frame, V = product of
levels.
"""

import math

import torch
from torch import Tensor

from models.tokenizers.codebook import Codebook, Encoded
from models.tokenizers.config import TokenizerConfig

SHRINK = 1e-3  # bounds stay this share inside the outer levels, so that rounding never goes beyond them


class FSQ(Codebook):
    """`weight` (V, F) holds the code of every token, in -1..1; it follows from `config.fsq_levels` and is not saved."""

    weight: Tensor
    half_F: Tensor  # bounds of a rounded number, about half of the levels
    offset_F: Tensor  # 0.5 where levels are even, so that they lie between whole numbers
    steps_F: Tensor  # levels on the lower side: numbers are divided by them

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config)
        levels_F = torch.tensor(config.fsq_levels)
        half_F, offset_F = (levels_F - 1) * (1 - SHRINK) / 2, (levels_F % 2 == 0) * 0.5
        place_F = torch.tensor([math.prod(config.fsq_levels[:number]) for number in range(len(config.fsq_levels))])
        digits_VF = torch.arange(config.vocab_size)[:, None] // place_F % levels_F
        steps_F = levels_F // 2
        found = {
            "half_F": half_F,
            "offset_F": offset_F,
            "steps_F": steps_F.float(),
            "place_F": place_F,
            "weight": (digits_VF - steps_F) / steps_F.float(),
        }
        for name, values in found.items():
            self.register_buffer(name, values, persistent=False)

    def bounded(self, z: Tensor) -> Tensor:
        """Numbers (..., F) squeezed between the outer levels: h tanh(z + tan(o / h)) - o, which rounding makes whole.

        That shift is the original's; for 0 to become 0 it would be atanh(o / h), a little more.
        """
        return (z + (self.offset_F / self.half_F).tan()).tanh() * self.half_F - self.offset_F

    def quantize(self, z: Tensor) -> Encoded:
        """Round the numbers of every latent of `z` (B, F, h, w). `Encoded.z` are these before, as codes are scaled."""
        bounded_BhwF = self.bounded(z.float().permute(0, 2, 3, 1))
        whole_BhwF = bounded_BhwF.detach().round()
        tokens_Bhw = ((whole_BhwF + self.steps_F).long() * self.get_buffer("place_F")).sum(-1)
        before, after = ((each / self.steps_F).permute(0, 3, 1, 2) for each in (bounded_BhwF, whole_BhwF))
        return Encoded(before, after, tokens_Bhw.flatten(1))
