"""Pictures of a training run: a panel of learning curves per loss, sheets and films' pictures that an eye can judge.

A row of metrics.jsonl is `{"phase": str, "step": int, "seconds": float, "<loss>": float, ...}`; a loss may be
missing from any row. A sheet's rows are usually original, reconstruction, one-step prediction and free-running
prediction (JOWA, appendix figures). Letters: T steps.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont

from pipelines.plots import style

NOT_LOSSES = ("phase", "step", "seconds", "turn")
LOG_FROM_RATIO = 20.0  # a loss that falls this many times over is unreadable on a linear axis
SMOOTH_FROM_POINTS = 40
INK, QUIET, PAPER, GAP_SHADE = 32, 110, 255, 255  # of a sheet, in shades of grey
WIDTH_LIMIT = 1520  # pixels: two screen pixels a frame pixel while they fit (8 Atari frames do), else one
LABEL, TITLE, STEPS, GAP, EDGE = 118, 30, 18, 6, 8


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the PNG at `path`, phases of the run in their own colours. Raises ValueError when no row holds a loss."""
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


def draw_sheet(rows: Mapping[str, np.ndarray], path: Path, title: str) -> None:
    """Write the PNG at `path`: named rows of frames under each other; 4 x 8 frames take 60 to 140 kB, Atari's less.

    rows: name -> frames (T, H, W) or (T, H, W, 3) uint8, the same shape in every row. Raises ValueError for no rows,
    another dtype or shapes that differ.
    """
    steps, height, width, *colours = _check(rows)
    scale = 2 if LABEL + steps * (2 * width + GAP) <= WIDTH_LIMIT else 1
    tall, wide = height * scale, width * scale
    size = LABEL + steps * (wide + GAP) + EDGE, TITLE + STEPS + len(rows) * (tall + GAP) + EDGE
    page = Image.new("RGB", size, (PAPER,) * 3) if colours else Image.new("L", size, PAPER)
    pen = ImageDraw.Draw(page)
    ink, quiet = ((INK,) * 3, (QUIET,) * 3) if colours else (INK, QUIET)
    pen.text((EDGE, 7), title, fill=ink, font=ImageFont.load_default(15))
    small = ImageFont.load_default(12)
    for step in range(steps):
        pen.text((LABEL + step * (wide + GAP) + wide // 2, TITLE + 1), str(step), fill=quiet, font=small, anchor="ma")
    for place, (name, frames_THW) in enumerate(rows.items()):
        top = TITLE + STEPS + place * (tall + GAP)
        pen.multiline_text((EDGE, top + tall // 2), _wrapped(name), fill=ink, font=small, anchor="lm", spacing=3)
        for step in range(steps):
            frame = Image.fromarray(np.ascontiguousarray(frames_THW[step]))
            page.paste(frame.resize((wide, tall), Image.Resampling.NEAREST), (LABEL + step * (wide + GAP), top))
    page.save(path, format="PNG", optimize=True)


def captioned(frames: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """One picture of a film: frames beside each other, each with a line above it, two screen pixels a frame pixel.

    frames: (H, W) or (H, W, 3) uint8, all of one shape; returns one of as many axes.
    """
    height, width, *colours = _check({str(place): frame[None] for place, frame in enumerate(frames)})[1:]
    size = len(frames) * (2 * width + GAP) - GAP, STEPS + 2 * height
    page = Image.new("RGB", size, (PAPER,) * 3) if colours else Image.new("L", size, PAPER)
    pen, small = ImageDraw.Draw(page), ImageFont.load_default(12)
    for place, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
        left, picture = place * (2 * width + GAP), Image.fromarray(np.ascontiguousarray(frame))
        page.paste(picture.resize((2 * width, 2 * height), Image.Resampling.NEAREST), (left, STEPS))
        pen.text((left + 2, 2), caption, fill=(INK,) * 3 if colours else INK, font=small)
    return np.asarray(page)


def _check(rows: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    if not rows:
        raise ValueError("A sheet needs at least one row of frames")
    shapes = {name: np.shape(frames) for name, frames in rows.items()}
    first = next(iter(shapes.values()))
    if len(first) not in (3, 4) or first[3:] not in ((), (3,)) or 0 in first or len(set(shapes.values())) > 1:
        raise ValueError(f"Rows of a sheet must share one shape (T, H, W) or (T, H, W, 3), got {shapes}")
    for name, frames in rows.items():
        if frames.dtype != np.uint8:
            raise ValueError(f"Row '{name}' of the sheet is {frames.dtype}: give uint8 frames (0 to 255)")
    return first


def _wrapped(name: str, limit: int = 15) -> str:
    """A row's name broken into short lines."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + len(word) >= limit:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
