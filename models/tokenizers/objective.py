"""What a tokenizer is trained on: shifted frames, reconstruction, commitment, and a perceptual distance where given.

Shapes: n frames of C channels and H x W pixels. A batch may be taken in parts: every part divides by the counts of the
whole batch, so that the parts' losses and gradients add up. Source: JOWA, arXiv 2410.00564, section 3.1 and appendix.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from models.api import FrameBatch, Losses, Moment
from models.losses.frames import commitment, motion_weight, reconstruction_l1
from models.tokenizers.vq import Tokenizer

Distance = Callable[[Tensor, Tensor], Tensor]
"""(frames, frames), each (n, C, H, W) in [0, 1] -> scalar"""


class TokenizerObjective:
    """The tokenizer's loss. `background_of` maps a game to its mean frame (C, H, W) in [0, 1]; none is needed without
    `motion_gain`, the extra weight of pixels off that background. `shift` is the augmentation in pixels.
    """

    def __init__(
        self,
        commitment_weight: float = 1.0,
        motion_gain: float = 0.0,
        shift: int = 0,
        seed: int = 0,
        background_of: Mapping[int, Tensor] | None = None,
        perceptual: Distance | None = None,
        perceptual_weight: float = 1.0,
    ) -> None:
        self._commitment, self._gain, self._shift, self._seed = commitment_weight, motion_gain, shift, seed
        self._background_of = background_of or {}
        self._perceptual, self._perceptual_weight = perceptual, perceptual_weight

    def prepare(self, batch: FrameBatch, moment: Moment) -> FrameBatch:
        """Shift the frames at random, each as the whole batch would shift it: draws depend on seed and step alone."""
        if not self._shift:
            return batch
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + moment.step)
        shifted = random_shift(batch.frames_nCHW, self._shift, generator, moment.first, moment.count)
        return FrameBatch(frames_nCHW=shifted, games_n=batch.games_n)

    def counts(self, batch: FrameBatch) -> Tensor:
        """(2,) float64: frames, and the sum over frames of their mean weights."""
        count = len(batch.frames_nCHW)
        mean = 1.0 if not self._gain else self._weight(batch).mean().double() * count
        return torch.stack([torch.as_tensor(float(value), dtype=torch.float64) for value in (count, mean)])

    def loss(
        self,
        tokenizer: Tokenizer,
        batch: FrameBatch,
        counts: Tensor,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> Losses:
        """reconstruction + commitment_weight * commitment + perceptual_weight * perceptual, means over all frames."""
        x = batch.frames_nCHW.float() / 255
        with autocast():
            out = tokenizer(x)
        weight = self._weight(batch) if self._gain else None
        mean = (counts[1] / counts[0]).float().to(x.device) if self._gain else None
        reconstruction = reconstruction_l1(x, out.frames, weight, mean)
        committed = commitment(out.encoded.z, out.encoded.z_quantized)
        total = reconstruction + self._commitment * committed
        terms = {"reconstruction": reconstruction.detach(), "commitment": committed.detach()}
        if self._perceptual is not None:
            distance = self._perceptual(x, out.frames)
            total = total + self._perceptual_weight * distance
            terms["lpips"] = distance.detach()
        part = len(x) / float(counts[0])  # all terms are means over frames of one size
        return Losses(total * part, {name: term * part for name, term in terms.items()})

    def _weight(self, batch: FrameBatch) -> Tensor:
        background = torch.stack([self._background_of[game] for game in batch.games_n.tolist()])
        return motion_weight(batch.frames_nCHW.float() / 255, background, self._gain)


def random_shift(frames: Tensor, pad: int, generator: torch.Generator, first: int = 0, of: int = 0) -> Tensor:
    """Shift each frame by -pad..pad whole pixels along both axes, repeating the edge (DrQ, Yarats et al. 2021).

    frames: (B, C, H, W) of any dtype; returns the same shape, dtype and device. `generator` lives on the CPU.
    Where the frames are rows first .. first + B of a batch of `of`, they are shifted as that whole batch would be.
    """
    batch, _, height, width = frames.shape
    all_2B = torch.randint(-pad, pad + 1, (2, of or batch, 1), generator=generator)
    shifts_2B = all_2B[:, first : first + batch].to(frames.device)
    rows_BH = (torch.arange(height, device=frames.device) + shifts_2B[0]).clamp(0, height - 1)
    columns_BW = (torch.arange(width, device=frames.device) + shifts_2B[1]).clamp(0, width - 1)
    frame_B = torch.arange(batch, device=frames.device)[:, None, None]
    return frames.movedim(1, -1)[frame_B, rows_BH[:, :, None], columns_BW[:, None, :]].movedim(-1, 1)
