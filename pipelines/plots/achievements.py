"""A picture of success rates: a group of bars an achievement, a bar an agent, with 95% intervals.

Rates of many achievements differ by orders of magnitude, and a single percent is news where others have none: the axis
is linear up to 1% and logarithmic above, unless it is asked to be linear further. Groups stand in the order of the
first agent's rates.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.plots import style
from pipelines.plots.scores import Value

GROUP_HEIGHT, BAR_HEIGHT, LABEL_HEIGHT, WIDTH = 0.1, 0.12, 0.17, 7.2  # inches
LABEL = 95  # letters of a label's line, which fill the width


@dataclass(frozen=True)
class Rates:
    """One agent: success rates in percent by achievement."""

    label: str
    rates: Mapping[str, Value]


def draw_rates(agents: Sequence[Rates], path: Path, linear: int = 1) -> None:
    """Write the PNG at `path`; the axis is linear up to `linear` percent.

    Raises ValueError where there is no agent or no achievement.
    """
    names = sorted(agents[0].rates, key=lambda name: agents[0].rates[name].value) if agents else []
    if not names:
        raise ValueError(f"Nothing to draw in {path.name}: no agent tells what its episodes reached")
    share = 0.84 / len(agents)
    # An agent of many seeds is called by all their experiments.
    labels = [textwrap.fill(agent.label, LABEL, break_on_hyphens=False) for agent in agents]
    lines = sum(label.count("\n") + 1 for label in labels)
    bars = len(names) * (GROUP_HEIGHT + BAR_HEIGHT * len(agents))
    drawn = style.figure(WIDTH, 1.0 + bars + LABEL_HEIGHT * lines)
    axes = drawn.add_subplot()
    style.quieten(axes, "Success rates")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=style.GRID, linewidth=0.8)
    for place, (agent, (label, colour)) in enumerate(zip(agents, style.colours(labels), strict=True)):
        heights = [group + 0.42 - share * (place + 0.5) for group in range(len(names))]
        found = [agent.rates[name] for name in names]
        axes.barh(heights, [rate.value for rate in found], share * 0.9, color=colour, label=label)
        for height, rate in zip(heights, found, strict=True):
            if rate.low is not None and rate.high is not None:
                axes.plot([rate.low, rate.high], [height, height], color=style.INK, linewidth=0.9, alpha=0.6)
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_xlim(0, 110)
    ticks = (0, 1, 10, 100) if linear < 10 else (0, 20, 40, 60, 80, 100)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel("episodes that reached it, percent", fontsize=7.5, color=style.QUIET)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], color=style.INK)
    drawn.legend(frameon=False, fontsize=7.5, labelcolor=style.INK, loc="outside lower left")
    style.save(drawn, path)
