"""What an environment shows and takes, as the networks know it: frames of their size, and their own actions.

Larger frames are resized by area: every pixel is the mean of what it covers, rounded to a byte. Actions are numbered
among the environment's, of which the networks may know some, in an order of their own, such as a single game's.

Shapes: (...) any axes, C channels, H x W pixels, R pixels a side inside, A actions inside, E of the environment.
"""

from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.tokenizers.config import TokenizerConfig


class Shown(Protocol):
    """What is asked of an agent's config: `frame` (H, W, C) of what it is shown, the tokenizer's, and its `actions`."""

    @property
    def frame(self) -> tuple[int, int, int]: ...

    @property
    def actions(self) -> tuple[int, ...]: ...

    @property
    def tokenizer(self) -> TokenizerConfig: ...


class Interface:
    """Translates frames and actions on their way in and out."""

    def __init__(self, config: Shown) -> None:
        self._height, self._width, _ = config.frame
        self._side = config.tokenizer.resolution
        self._actions_A = torch.tensor(config.actions) if config.actions else None

    # ---- frames ----

    def inward(self, frames: Tensor) -> Tensor:
        """Frames (..., C, R, R) uint8 of (..., C, H, W) uint8. Raises ValueError for another type or size."""
        if frames.dtype != torch.uint8 or frames.shape[-2:] != (self._height, self._width):
            raise ValueError(
                f"Frames {tuple(frames.shape)} of {frames.dtype} do not fit: give uint8 (..., {self._height}, "
                f"{self._width}), as the agent's config has it"
            )
        if (self._height, self._width) == (self._side, self._side):
            return frames
        rows_RH, columns_RW = (area_means(side, self._side).to(frames.device) for side in (self._height, self._width))
        with torch.autocast(frames.device.type, enabled=False):  # bfloat16 would move bytes, and tokens with them
            return (rows_RH @ frames.float() @ columns_RW.T).round().to(torch.uint8)

    def outward(self, frames: Tensor) -> Tensor:
        """Frames (..., C, H, W) of (..., C, R, R), each pixel repeated."""
        if (self._height, self._width) == (self._side, self._side):
            return frames
        large = F.interpolate(frames.reshape(-1, *frames.shape[-3:]), (self._height, self._width), mode="nearest")
        return large.reshape(*frames.shape[:-2], self._height, self._width)

    # ---- actions ----

    def own(self, actions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Our numbers of the environment's (...), where `mask` is True. Raises ValueError for one that is not known."""
        if self._actions_A is None:
            return actions
        same = actions[..., None] == self._actions_A.to(actions.device)
        unknown = ~same.any(-1) if mask is None else ~same.any(-1) & mask
        if bool(unknown.any()):
            raise ValueError(
                f"Action {int(actions[unknown][0])} is none of {self._actions_A.tolist()}, which this agent knows: "
                "give it data of its own game"
            )
        return same.long().argmax(-1)

    def theirs(self, actions: Tensor) -> Tensor:
        """The environment's numbers of ours (...)."""
        return actions if self._actions_A is None else self._actions_A.to(actions.device)[actions]

    def legal(self, legal_XE: Tensor) -> Tensor:
        """Which of our actions are legal, (X, A), where those of the environment are (X, E). All bool."""
        return legal_XE if self._actions_A is None else legal_XE[:, self._actions_A.to(legal_XE.device)]


@cache
def area_means(size: int, smaller: int) -> Tensor:
    """Weights (smaller, size) float32: row i is the mean of the pixels on [i, i + 1) size / smaller."""
    edges = torch.arange(smaller + 1, dtype=torch.float64) * size / smaller
    pixels = torch.arange(size, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (covered.clamp(min=0) * smaller / size).float()
