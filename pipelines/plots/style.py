"""The common look of all plots: colours, a quiet axis, and a small, reproducible PNG.

Quantising to 64 colours takes a full-page plot from about 150 kB to 40 kB; no date and no version is written into
the file, so the same numbers give the same bytes.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 120
INK, QUIET, GRID = "#20262e", "#6b7480", "#e6e9ed"
SERIES = ("#2b6ca3", "#c4692b", "#4c8a57", "#8a5aa8", "#b04a5a", "#3d8f94", "#917a2c", "#5b6f8f")
RANDOM, BEHAVIOUR = "#8d95a0", "#3a424d"  # greys: the colours belong to agents
COLOURS = 64


def figure(width: float, height: float) -> Figure:
    """An empty white figure of `width` x `height` inches."""
    made = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    made.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    return made


def grid(count: int, columns: int, width: float = 3.1, height: float = 2.3) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in at most `columns` columns; cells left over stay empty."""
    across = min(count, columns)
    down = -(-count // across)
    made = figure(width * across, height * down)
    return made, [made.add_subplot(down, across, place + 1) for place in range(count)]


def quieten(axes: Axes, title: str) -> None:
    """Left-aligned title, no frame, a faint horizontal grid."""
    axes.set_title(title, loc="left", fontsize=9.5, color=INK, fontweight="bold")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(colors=QUIET, labelsize=7.5, length=0)
    axes.tick_params(which="minor", length=0, labelsize=6.5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def colours(names: list[str]) -> Iterator[tuple[str, str]]:
    """Each name with its colour, in order; colours repeat after eight."""
    return ((name, SERIES[place % len(SERIES)]) for place, name in enumerate(names))


def save(drawn: Figure, path: Path) -> None:
    """Write the figure as a palette PNG."""
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # (height, width, 3) uint8
    image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(path, format="PNG", optimize=True)
