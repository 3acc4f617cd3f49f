"""The contact sheet: which frames are on it, and that equal videos give equal bytes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.plots.videos import ACROSS, draw_sheet, places
from tests.pipelines.episodes.videos.made_videos import wandering


def test_the_first_and_the_last_frame_are_shown_and_no_frame_twice() -> None:
    assert places(1) == [0] and places(3) == [0, 1, 2]
    for length in (8, 9, 25, 200, 20_000):
        shown = places(length)
        assert (shown[0], shown[-1], len(shown)) == (0, length - 1, ACROSS) and shown == sorted(set(shown))


def test_every_video_is_a_row_of_its_frames(tmp_path: Path) -> None:
    rows = [("one", wandering(8, 1)), ("short", wandering(2, 2))]
    for name in ("a.png", "b.png"):
        draw_sheet(rows, tmp_path / name, scale=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as opened:
        sheet = np.asarray(opened.convert("RGB"))
    assert sheet.shape == (2 * (128 + 15) + 2, 8 * 130 + 2, 3)
    first = sheet[13 : 13 + 128 : 2, 2 : 2 + 128 : 2]
    assert np.array_equal(first, rows[0][1][0])
    with pytest.raises(ValueError, match="there is no video"):
        draw_sheet([], tmp_path / "c.png")
