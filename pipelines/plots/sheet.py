"""Reconstruction sheet: named rows of frames under each other, so that an eye can judge what the model sees.

Rows are usually original, reconstruction, one-step prediction and free-running prediction (JOWA, appendix figures).
Letters: T steps. A sheet of 4 x 8 frames takes 60 to 140 kB, of Atari's flat frames less.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, QUIET, PAPER, GAP_SHADE = 32, 110, 255, 255
WIDTH_LIMIT = 1520  # pixels: two screen pixels a frame pixel while they fit (8 Atari frames do), else one
LABEL, TITLE, STEPS, GAP, EDGE = 118, 30, 18, 6, 8


def draw(rows: Mapping[str, np.ndarray], path: Path, title: str) -> None:
    """Write the PNG at `path`.

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
