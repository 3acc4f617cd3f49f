"""Performance profiles: which share of episodes scores above each threshold, with a 95% band, a panel per block.

Source: Agarwal et al. 2021 (arXiv 2108.13264), section 5.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.plots import style

TITLE_WIDTH = 58  # letters that fit above a panel


@dataclass(frozen=True)
class Curve:
    """One agent. `thresholds`, `share`, `low` and `high` are (X,)."""

    label: str
    thresholds: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """Agents that may be compared."""

    title: str
    curves: tuple[Curve, ...]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Write the PNG at `path`. Raises ValueError for an empty table."""
    if not panels:
        raise ValueError(f"Nothing to draw in {path.name}: no agent has an episode with a normalised score")
    drawn, axes_list = style.grid(len(panels), columns=2, width=4.6, height=3.2)
    for panel, axes in zip(panels, axes_list, strict=True):
        style.quieten(axes, textwrap.fill(panel.title, TITLE_WIDTH))
        for curve, colour in zip(panel.curves, _colours(len(panel.curves)), strict=True):
            axes.fill_between(curve.thresholds, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(curve.thresholds, curve.share, color=colour, linewidth=1.7, label=curve.label)
        axes.axvline(1.0, color=style.RANDOM, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("human-normalised score (1 = human)", fontsize=7.5, color=style.QUIET)
        axes.set_ylabel("share of episodes above", fontsize=7.5, color=style.QUIET)
        axes.legend(frameon=False, fontsize=7.5, labelcolor=style.INK)
    style.save(drawn, path)


def _colours(count: int) -> list[str]:
    return [style.SERIES[place % len(style.SERIES)] for place in range(count)]
