"""Augmentation of frames while a tokenizer trains."""

import torch
from torch import Tensor


def random_shift(frames: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Shift each frame by -pad..pad whole pixels along both axes, repeating the edge (DrQ, Yarats et al. 2021).

    frames: (B, C, H, W) of any dtype; returns the same shape, dtype and device. `generator` lives on the CPU.
    """
    batch, _, height, width = frames.shape
    shifts_2B = torch.randint(-pad, pad + 1, (2, batch, 1), generator=generator).to(frames.device)
    rows_BH = (torch.arange(height, device=frames.device) + shifts_2B[0]).clamp(0, height - 1)
    columns_BW = (torch.arange(width, device=frames.device) + shifts_2B[1]).clamp(0, width - 1)
    frame_B = torch.arange(batch, device=frames.device)[:, None, None]
    return frames.movedim(1, -1)[frame_B, rows_BH[:, :, None], columns_BW[:, None, :]].movedim(-1, 1)
