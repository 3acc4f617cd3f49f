"""Pictures of scores: every evaluated episode as a dot, aggregates with their intervals, and performance profiles.

Source of profiles: Agarwal et al. 2021 (arXiv 2108.13264), section 5.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipelines.plots import style

LABEL_WIDTH, PANEL_WIDTH, ROW_HEIGHT = 2.0, 2.1, 0.24  # inches
TITLE_WIDTH = 58  # letters that fit above a panel


@dataclass(frozen=True)
class Agent:
    """One column of dots: raw returns of finished evaluation episodes, and their mean with its interval where known.

    `mean` is that of the dots unless given: runs with different numbers of episodes weigh equally.
    """

    label: str
    returns: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    mean: float | None = None


@dataclass(frozen=True)
class Panel:
    """One game. `random` and `behaviour` are mean raw returns, None where nobody measured them."""

    game: str
    agents: tuple[Agent, ...]
    random: float | None = None
    behaviour: float | None = None


def draw_episodes(table: Sequence[Panel], path: Path) -> None:
    """Write the PNG at `path`: a panel a game, means as bars, next to random play and to the behaviour data.

    Raises ValueError for an empty table.
    """
    if not table:
        raise ValueError(f"Nothing to draw in {path.name}: no game was scored")
    most = max(len(panel.agents) for panel in table)
    drawn, axes_list = style.grid(len(table), columns=max(1, min(4, 8 // most)), width=2.6 + 0.9 * most, height=3.2)
    for panel, axes in zip(table, axes_list, strict=True):
        style.quieten(axes, panel.game)
        for place, agent in enumerate(panel.agents):
            _dots(axes, place, agent)
        right = max(len(panel.agents), 1) - 0.5
        axes.set_xlim(-0.6, right + 1.0)
        _level(axes, panel.random, "random", style.RANDOM, right)
        _level(axes, panel.behaviour, "behaviour", style.BEHAVIOUR, right)
        axes.set_xticks(range(len(panel.agents)), [agent.label for agent in panel.agents], fontsize=8, color=style.INK)
        axes.set_ylabel("raw return per episode", fontsize=7.5, color=style.QUIET)
    style.save(drawn, path)


def _dots(axes: Axes, place: int, agent: Agent) -> None:
    """Dots are spread sideways in a fixed pattern, so that equal returns stay countable."""
    returns = np.array(agent.returns, dtype=float)
    if not returns.size:
        return
    colour = style.SERIES[place % len(style.SERIES)]
    spread = (np.arange(returns.size) * 0.618034 % 1.0 - 0.5) * 0.44
    axes.scatter(place + spread, returns, s=16, color=colour, alpha=0.55, linewidths=0)
    mean = float(returns.mean()) if agent.mean is None else agent.mean
    axes.plot([place - 0.28, place + 0.28], [mean, mean], color=colour, linewidth=2.4)
    if agent.low is not None and agent.high is not None:
        axes.fill_between([place - 0.28, place + 0.28], agent.low, agent.high, color=colour, alpha=0.18, linewidth=0)
    axes.annotate(
        f"{mean:.4g}",
        (place + 0.28, mean),
        ha="left",
        va="center",
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8.5,
        color=style.INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def _level(axes: Axes, value: float | None, name: str, colour: str, right: float) -> None:
    if value is None:
        return
    axes.axhline(value, color=colour, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        f"{name} {value:.4g}",
        (right + 0.98, value),
        ha="right",
        va="bottom",
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=7.5,
        color=colour,
    )


@dataclass(frozen=True)
class Value:
    """`low` and `high` are None where no interval is known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class AggregateLine:
    """One agent: `values` by panel title (a missing one leaves a gap), `ours` picks the colour."""

    label: str
    block: int
    ours: bool
    values: Mapping[str, Value]


def draw_aggregates(lines: Sequence[AggregateLine], panels: Sequence[str], path: Path, goal: float = 1.0) -> None:
    """Write the PNG at `path`: a row an agent, a panel an aggregate, a gap between blocks.

    A filled dot has an interval; a hollow one has none, as only means are known. `goal` is the dashed line of every
    panel. Raises ValueError for an empty table.
    """
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
                _interval(axes, height, value, style.SERIES[1] if line.ours else style.SERIES[0])
        axes.set_ylim(heights[-1] - 0.7, 0.7)
        axes.set_yticks(heights, [line.label for line in lines] if not place else [""] * len(lines), color=style.INK)
        axes.margins(x=0.12)
    style.save(drawn, path)


def _interval(axes: Axes, height: float, found: Value, colour: str) -> None:
    inside = "white"
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [height, height], color=colour, linewidth=2.0, alpha=0.55)
        inside = colour
    axes.plot([found.value], [height], "o", color=colour, markersize=5, markerfacecolor=inside, zorder=3)


@dataclass(frozen=True)
class ProfileCurve:
    """One agent. `thresholds`, `share`, `low` and `high` are (X,)."""

    label: str
    thresholds: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class ProfilePanel:
    """Agents that may be compared."""

    title: str
    curves: tuple[ProfileCurve, ...]


def draw_profiles(panels: Sequence[ProfilePanel], path: Path) -> None:
    """Write the PNG at `path`: which share of episodes scores above each threshold, with a 95% band, a panel a block.

    Raises ValueError for an empty table.
    """
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
