"""Learning curves of one training run: a panel per loss, phases of the run in their own colours.

A row of metrics.jsonl is `{"phase": str, "step": int, "seconds": float, "<loss>": float, ...}`; a loss may be
missing from any row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pipelines.plots import style

NOT_LOSSES = ("phase", "step", "seconds")
LOG_FROM_RATIO = 20.0  # a loss that falls this many times over is unreadable on a linear axis
SMOOTH_FROM_POINTS = 40


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the PNG at `path`. Raises ValueError when no row holds a loss."""
    losses = loss_names(rows)
    if not losses:
        raise ValueError(f"Nothing to draw in {path.name}: {len(rows)} rows and no loss in any of them")
    phases = list(dict.fromkeys(str(row["phase"]) for row in rows))
    where = _positions(rows)
    drawn, panels = style.grid(len(losses), columns=4)
    for name, axes in zip(losses, panels, strict=True):
        style.quieten(axes, name.replace("_", " "))
        _panel(axes, rows, where, name, phases)
        axes.set_xlabel("training step", fontsize=7.5, color=style.QUIET)
    if len(phases) > 1:
        handles = [
            panels[0].plot([], [], color=colour, linewidth=2, label=phase)[0] for phase, colour in style.colours(phases)
        ]
        drawn.legend(
            handles=handles,
            loc="outside upper left",
            ncols=len(phases),
            frameon=False,
            fontsize=8,
            labelcolor=style.INK,
        )
    style.save(drawn, path)


def loss_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every key with a number in some row, in order of first appearance; phase, step and seconds are not losses."""
    names = {
        name: None
        for row in rows
        for name, value in row.items()
        if name not in NOT_LOSSES and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return list(names)


def _positions(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Steps that never run back: a phase that starts counting at 0 again is moved behind the one before. (rows,)"""
    where = np.zeros(len(rows))
    offset = last = 0.0
    phase = None
    for place, row in enumerate(rows):
        if row["phase"] != phase:
            phase = row["phase"]
            offset = last if place and float(row["step"]) < last else 0.0
        where[place] = last = offset + float(row["step"])
    return where


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], where: np.ndarray, name: str, phases: Sequence[str]) -> None:
    values = np.array([_number(row.get(name)) for row in rows])
    seen = values[np.isfinite(values)]
    if seen.size and seen.min() > 0 and seen.max() / seen.min() > LOG_FROM_RATIO:
        axes.set_yscale("log")
    for phase, colour in style.colours(list(phases)):
        mine = np.isfinite(values) & np.array([row["phase"] == phase for row in rows])
        if not mine.any():
            continue
        many = int(mine.sum()) >= SMOOTH_FROM_POINTS
        marker = "o" if mine.sum() == 1 else None
        if many:
            axes.plot(where[mine], values[mine], color=colour, linewidth=0.7, alpha=0.3)
        line = _smooth(values[mine]) if many else values[mine]
        axes.plot(where[mine], line, color=colour, linewidth=1.6, marker=marker, markersize=3)
    if seen.size:
        axes.annotate(
            f"{values[np.isfinite(values)][-1]:.3g}",
            (1, 1),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            xytext=(0, 4),
            textcoords="offset points",
            fontsize=8,
            color=style.QUIET,
        )
    else:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", fontsize=8, color=style.QUIET)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over a twentieth of the points, shrinking at both ends so that nothing is invented."""
    half = max(1, values.size // 40)
    total = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(values.size)
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, values.size)
    return (total[high] - total[low]) / (high - low)
