"""A contact sheet: some videos, a row each, as frames that are evenly spaced over their length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipelines.plots.style import INK

ACROSS = 8  # frames of a row
GAP, LINE = 2, 13  # pixels between frames, and for the text above a row


def places(length: int, across: int = ACROSS) -> list[int]:
    """The numbers of the frames that are shown of a video of so many: the first, the last, and between them."""
    return np.unique(np.linspace(0, length - 1, min(across, length)).round().astype(int)).tolist()


def draw_sheet(rows: Sequence[tuple[str, NDArray[np.uint8]]], path: Path, scale: int = 1) -> None:
    """Write the PNG at `path`: of each row its title and its frames (at most `ACROSS`, H, W, 3), enlarged by `scale`.

    Raises ValueError where there is no row.
    """
    if not rows:
        raise ValueError(f"Nothing to draw in {path.name}: there is no video")
    height, width = (side * scale for side in rows[0][1].shape[1:3])
    across = max(len(frames) for _, frames in rows)
    sheet = Image.new("RGB", (across * (width + GAP) + GAP, len(rows) * (height + LINE + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (title, frames) in enumerate(rows):
        top = number * (height + LINE + GAP)
        pen.text((GAP, top), title, fill=INK)
        for place, frame in enumerate(frames):
            picture = Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(picture, (GAP + place * (width + GAP), top + LINE))
    sheet.save(path, format="PNG", optimize=True)
