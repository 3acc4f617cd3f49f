"""Pictures of behaviour data: what a replay's logs hold, and whether its returns rise over the collection.

The real set's agents improve from checkpoint to checkpoint; the mean returns show whether the data at hand does too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipelines.plots import style

GOOD, ODD = style.SERIES[2], style.SERIES[1]


def draw_facts(evidence: pd.DataFrame, episodes: pd.DataFrame, path: Path) -> None:
    """Write the PNG at `path`: lengths and returns of episodes; of logs, also counts and what follows terminals.

    Takes the columns of evidence.parquet and episodes.parquet. Raises ValueError when there is no file.
    """
    if evidence.empty:
        raise ValueError(f"Nothing to draw in {path.name}: there is no log")
    of_logs = "add_count" in evidence
    drawn, panels = style.grid(4 if of_logs else 2, columns=2, width=4.2, height=2.4)
    *above, lengths, returns = panels
    for draw, axes in zip((_counts, _padding), above, strict=False):
        draw(axes, evidence)
    complete = episodes[episodes["complete"]]
    _lengths(lengths, complete["length"].to_numpy())
    _returns(returns, complete)
    for axes in (*above, returns):
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


def draw_returns(
    returns: Mapping[str, Sequence[float | None]], path: Path, part: str = "fifth of the collection", unit: str = "raw"
) -> None:
    """Write the PNG at `path`, a panel a game.

    returns: game -> mean return of each part in order, None for a part without a finished episode; `part` names
    what is counted (a fifth, a checkpoint), `unit` the reward ("raw" or "clipped"). Raises ValueError when empty.
    """
    if not returns:
        raise ValueError(f"Nothing to draw in {path.name}: no game has behaviour data")
    drawn, panels = style.grid(len(returns), columns=4)
    for (game, means), axes in zip(returns.items(), panels, strict=True):
        style.quieten(axes, game)
        values = np.array([np.nan if mean is None else mean for mean in means], dtype=float)
        places = np.arange(1, values.size + 1)
        axes.plot(places, values, color=style.BEHAVIOUR, linewidth=1.8, marker="o", markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.margins(x=0.08, y=0.18)
        axes.set_xlabel(part, fontsize=7.5, color=style.QUIET)
        axes.set_ylabel(f"mean {unit} return", fontsize=7.5, color=style.QUIET)
        if values.size <= 8:
            for place, value in zip(places, values, strict=True):
                if np.isfinite(value):
                    axes.annotate(
                        f"{value:.3g}",
                        (place, value),
                        ha="center",
                        xytext=(0, 5),
                        textcoords="offset points",
                        fontsize=7.5,
                        color=style.INK,
                    )
    style.save(drawn, path)
