"""Which windows of an episode the models see: arithmetic on episode starts, so nothing needs to be searched.

A segment covers steps `start .. start + length - 1` of its episode; steps below 0 or from T on are padding.
Right-padded segments (pre-training) start at 0, stride, 2 stride, ... < T. Left-padded ones (imagination) end at T,
T - stride, ... > 0, so their start may be negative. Source: JOWA (arXiv 2410.00564); the original's left-padded ends
begin one step earlier, so that it never shows a terminal step there.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EPISODE, START, END, ENVIRONMENT = COLUMNS = ("Episode index", "Start index", "End index", "Environment")
FILE_NAME = "segments.parquet"


def segment_index(episode_starts: NDArray[np.int64], length: int, stride: int, padding: str) -> NDArray[np.int64]:
    """(S, 3) int64: episode, start, end (exclusive, at most T) of every segment, by episode and start.

    `episode_starts` is (E+1,) with the total at the end; `padding` is "right" or "left". Raises ValueError for another.
    """
    if padding not in ("right", "left"):
        raise ValueError(f"Segment padding '{padding}' is unknown: choose right or left")
    steps = np.diff(episode_starts)  # T per episode
    counts = -(-steps // stride)
    episodes = np.repeat(np.arange(len(steps)), counts)
    rank = np.arange(len(episodes)) - np.repeat(np.cumsum(counts) - counts, counts)
    if padding == "right":
        starts = rank * stride
        ends = np.minimum(starts + length, steps[episodes])
    else:
        ends = steps[episodes] - (counts[episodes] - 1 - rank) * stride
        starts = ends - length
    return np.stack([episodes, starts, ends], axis=1)


def real_steps(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """(S,) how many of each segment's steps are real, none of them padding."""
    return index[:, 2] - np.maximum(index[:, 1], 0)


def to_table(index: NDArray[np.int64], game: str) -> pd.DataFrame:
    """The index with JOWA's column names."""
    table = pd.DataFrame(index.astype(np.int32), columns=list(COLUMNS[:3]))
    table[ENVIRONMENT] = pd.Categorical([game]).repeat(len(index))
    return table


def read_table(folder: Path) -> NDArray[np.int64]:
    """The index (S, 3) of a `segments` artefact's folder: episode, start, end."""
    table = pd.read_parquet(folder / FILE_NAME, columns=list(COLUMNS[:3]))
    return table.to_numpy(np.int64)
