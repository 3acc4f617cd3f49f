"""What is written down of played episodes: statistics, and a table with a row each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipelines.atari.rollout import Episode
from pipelines.atari.scores import iqm


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Statistics of raw returns (arXiv 2410.00564, evaluation), and the mean of the sign-clipped ones."""
    scores = np.array([episode.score for episode in episodes])
    return {
        "mean": round(float(scores.mean()), 4),
        "std": round(float(scores.std(ddof=1)) if len(scores) > 1 else 0.0, 4),
        "median": float(np.median(scores)),
        "iqm": round(iqm(scores.tolist()), 4),
        "clipped_mean": round(float(np.mean([episode.clipped_score for episode in episodes])), 4),
        "episodes": len(scores),
        "mean_length": round(float(np.mean([episode.length for episode in episodes])), 1),
    }


def episode_table(played: Mapping[str, Sequence[Episode]]) -> pd.DataFrame:
    """All episodes by planner: emulator's seed, raw and sign-clipped return, length in agent steps, how it ended."""
    return pd.DataFrame(
        [{"planner": name, **episode.row()} for name, episodes in played.items() for episode in episodes]
    )
