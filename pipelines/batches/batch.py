"""The batch that every loader gives, whatever it reads from; which source each of its rows comes from, and which rank.

Shape letters: B segments of a batch, T steps, H and W pixels, K tokens per frame, n single frames. Frames are grey
where no channel axis is named; RGB frames have a last axis of 3.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SegmentBatch:
    """Padding steps are zeros with mask False. Actions are numbered as the game's spaces, games as the registry."""

    frames_BTHW: NDArray[np.uint8] | None  # (B, T, H, W), or (B, T, H, W, 3) of RGB
    tokens_BTK: NDArray[np.int64] | None
    actions_BT: NDArray[np.int64]
    rewards_BT: NDArray[np.float32]
    ends_BT: NDArray[np.uint8]  # true game over only, time-outs are 0
    mask_BT: NDArray[np.bool_]
    games_B: NDArray[np.int64]


@dataclass(frozen=True)
class FrameBatch:
    """Single frames, for the tokenizer."""

    frames_nHW: NDArray[np.uint8]  # (n, H, W), or (n, H, W, 3) of RGB
    games_n: NDArray[np.int64]


class BatchSource(Protocol):
    """Batches as a pure function of the step, so that workers, ranks and resumed runs agree. May be pickled."""

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Any:
        """One rank's rows (`rank_rows`) of the batch of a step: a SegmentBatch or FrameBatch."""

    def close(self) -> None:
        """Let go of files; the next batch opens them again. Called before a fork."""


def rank_rows(count: int, rank: int, world: int) -> slice:
    """The rows of a batch of `count` that one of `world` ranks takes. In order of rank they are the whole batch.

    Raises ValueError for a rank that is not below `world`, and for more ranks than rows.
    """
    if not 0 <= rank < world:
        raise ValueError(f"Rank {rank} of {world}: ranks are numbered 0 to {world - 1}")
    if world > count:
        raise ValueError(f"A batch of {count} cannot be shared by {world} ranks: make it larger or take fewer ranks")
    return slice(rank * count // world, (rank + 1) * count // world)


def samples(step: int, count: int, sources: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each of the `count` samples of a step: its source, and how many samples that source gave before it.

    Both (count,) int64. Samples go round the `sources` in turn, however they are cut into batches, so that equal shares
    are exact at any step.
    """
    nths, slots = np.divmod(step * count + np.arange(count), sources)
    return slots, nths
