"""Augmentation of frames while a tokenizer trains."""

import torch
from torch import Tensor


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
