"""What a replay is like, in one picture: its counts, its episodes' lengths and returns, what follows its terminals.

Takes the columns of evidence.parquet and episodes.parquet.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipelines.plots import style

GOOD, ODD = style.SERIES[2], style.SERIES[1]


def draw(evidence: pd.DataFrame, episodes: pd.DataFrame, path: Path) -> None:
    """Write the PNG at `path`. Raises ValueError when there is no log."""
    if evidence.empty:
        raise ValueError(f"Nothing to draw in {path.name}: there is no log")
    drawn, (counts, padding, lengths, returns) = style.grid(4, columns=2, width=4.2, height=2.4)
    _counts(counts, evidence)
    _padding(padding, evidence)
    complete = episodes[episodes["complete"]]
    _lengths(lengths, complete["length"].to_numpy())
    _returns(returns, complete)
    for axes in (counts, padding, returns):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.set_xlabel("log file", fontsize=7.5, color=style.QUIET)
    style.save(drawn, path)


def _counts(axes: Axes, evidence: pd.DataFrame) -> None:
    """A reset or unjoined count stands out: the line of a whole replay is straight until its last log."""
    style.quieten(axes, "add_count, and logs joined to the one before")
    joined = evidence["border"].isin(["first", "joined", "again"]).to_numpy()
    axes.plot(evidence["checkpoint"], evidence["add_count"], color=style.GRID, linewidth=1.5, zorder=1)
    for mask, colour, name in ((joined, GOOD, "joined"), (~joined, ODD, "apart")):
        rows = evidence[mask]
        axes.scatter(rows["checkpoint"], rows["add_count"], s=14, color=colour, label=f"{name}: {len(rows)}", zorder=2)
    axes.legend(frameon=False, fontsize=7, labelcolor=style.INK)


def _padding(axes: Axes, evidence: pd.DataFrame) -> None:
    style.quieten(axes, "terminals with blank rows behind, and without")
    axes.bar(evidence["checkpoint"], evidence["padded"], color=GOOD, label=f"with: {evidence['padded'].sum():,}")
    below = evidence["padded"]
    axes.bar(
        evidence["checkpoint"], evidence["bare"], bottom=below, color=ODD, label=f"bare: {evidence['bare'].sum():,}"
    )
    axes.set_ylim(0, 1.35 * max(1, (evidence["padded"] + evidence["bare"]).max()))  # room for the legend
    axes.legend(frameon=False, fontsize=7, labelcolor=style.INK)


def _lengths(axes: Axes, lengths: np.ndarray) -> None:
    style.quieten(axes, "lengths of complete episodes")
    axes.set_xlabel("agent steps", fontsize=7.5, color=style.QUIET)
    if len(lengths):
        axes.hist(lengths, bins=min(40, max(5, len(lengths) // 4)), color=style.SERIES[0])


def _returns(axes: Axes, complete: pd.DataFrame) -> None:
    """Mean and middle half: quality rises over the run of a learning agent."""
    style.quieten(axes, "clipped return by log of the episode's end")
    if complete.empty:
        return
    grouped = complete.groupby("checkpoint")["return"]
    mean, low, high = grouped.mean(), grouped.quantile(0.25), grouped.quantile(0.75)
    axes.fill_between(mean.index, low, high, color=style.SERIES[0], alpha=0.18, linewidth=0)
    axes.plot(mean.index, mean, color=style.SERIES[0], linewidth=1.8, marker="o", markersize=3)
