"""The batch that every loader gives, whatever it reads from, and which of its rows belong to a rank.

Shape letters: B segments of a batch, b of them on one rank, T steps, H and W 84, K tokens per frame, n single frames.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SegmentBatch:
    """Padding steps are zeros with mask False. Actions are ids of the 18-action vocabulary, games ids of the 60."""

    frames_BTHW: NDArray[np.uint8] | None
    tokens_BTK: NDArray[np.int64] | None
    actions_BT: NDArray[np.int64]
    rewards_BT: NDArray[np.float32]
    ends_BT: NDArray[np.uint8]  # true game over only, time-outs are 0
    mask_BT: NDArray[np.bool_]
    games_B: NDArray[np.int64]


@dataclass(frozen=True)
class FrameBatch:
    """Single frames, for the tokenizer."""

    frames_nHW: NDArray[np.uint8]
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
