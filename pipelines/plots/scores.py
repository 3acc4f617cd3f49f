"""Score plot: every evaluated episode as a dot, means as bars, next to random play and to the behaviour data.

One panel per game.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pipelines.plots import style


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


def draw(table: Sequence[Panel], path: Path) -> None:
    """Write the PNG at `path`. Raises ValueError for an empty table."""
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
