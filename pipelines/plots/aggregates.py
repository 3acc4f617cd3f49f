"""Aggregates over games with their intervals: a row per agent, a panel per aggregate, a gap between blocks.

A filled dot has an interval; a hollow one has none, as only means are known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from pipelines.plots import style

LABEL_WIDTH, PANEL_WIDTH, ROW_HEIGHT = 2.0, 2.1, 0.24  # inches


@dataclass(frozen=True)
class Value:
    """`low` and `high` are None where no interval is known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One agent: `values` by panel title (a missing one leaves a gap), `ours` picks the colour."""

    label: str
    block: int
    ours: bool
    values: Mapping[str, Value]


def draw(lines: Sequence[Line], panels: Sequence[str], path: Path, goal: float = 1.0) -> None:
    """Write the PNG at `path`; `goal` is the dashed line of every panel. Raises ValueError for an empty table."""
    if not lines or not panels:
        raise ValueError(f"Nothing to draw in {path.name}: no agent has an aggregate")
    blocks = list(dict.fromkeys(line.block for line in lines))
    heights = [-(place + 0.8 * blocks.index(line.block)) for place, line in enumerate(lines)]
    drawn = style.figure(LABEL_WIDTH + PANEL_WIDTH * len(panels), 0.9 + ROW_HEIGHT * (1 - heights[-1]))
    grid = drawn.add_gridspec(1, len(panels))
    for place, panel in enumerate(panels):
        axes = drawn.add_subplot(grid[0, place])
        style.quieten(axes, panel)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=style.GRID, linewidth=0.8)
        axes.axvline(goal, color=style.RANDOM, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        for height, line in zip(heights, lines, strict=True):
            if (value := line.values.get(panel)) is not None:
                _dot(axes, height, value, style.SERIES[1] if line.ours else style.SERIES[0])
        axes.set_ylim(heights[-1] - 0.7, 0.7)
        axes.set_yticks(heights, [line.label for line in lines] if not place else [""] * len(lines), color=style.INK)
        axes.margins(x=0.12)
    style.save(drawn, path)


def _dot(axes: Axes, height: float, found: Value, colour: str) -> None:
    inside = "white"
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [height, height], color=colour, linewidth=2.0, alpha=0.55)
        inside = colour
    axes.plot([found.value], [height], "o", color=colour, markersize=5, markerfacecolor=inside, zorder=3)
