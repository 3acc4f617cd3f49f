"""Reconstruction sheets show exact pixels, at twice their size while eight frames fit the width."""

import numpy as np
import pytest
from PIL import Image

from pipelines.plots import sheet


def frames(steps, seed=0):
    made = np.zeros((steps, 84, 84), dtype=np.uint8)
    generator = np.random.default_rng(seed)
    for step in range(steps):
        y, x = generator.integers(0, 70, size=2)
        made[step, y : y + 9, x : x + 5] = 200
    return made


def test_pixels_survive(tmp_path):
    original = frames(8)
    sheet.draw({"original": original, "free-running prediction": frames(8, 1)}, tmp_path / "s.png", "Freeway")
    with Image.open(tmp_path / "s.png") as image:
        page = np.asarray(image)
    left, top = sheet.LABEL, sheet.TITLE + sheet.STEPS
    assert np.array_equal(page[top : top + 168 : 2, left : left + 168 : 2], original[0])
    second = left + 168 + sheet.GAP
    assert np.array_equal(page[top + 1 : top + 168 : 2, second + 1 : second + 168 : 2], original[1])
    assert (tmp_path / "s.png").stat().st_size < 150_000


def test_colours_survive(tmp_path):
    coloured = np.stack([frames(4), frames(4, 1), frames(4, 2)], axis=-1)
    sheet.draw({"original": coloured}, tmp_path / "s.png", "Freeway")
    with Image.open(tmp_path / "s.png") as image:
        page = np.asarray(image)
    left, top = sheet.LABEL, sheet.TITLE + sheet.STEPS
    assert np.array_equal(page[top : top + 168 : 2, left : left + 168 : 2], coloured[0])


def test_many_steps_shrink_to_single_pixels(tmp_path):
    sheet.draw({"original": frames(12)}, tmp_path / "s.png", "Boxing")
    with Image.open(tmp_path / "s.png") as image:
        assert image.width == sheet.LABEL + 12 * (84 + sheet.GAP) + sheet.EDGE


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({}, "at least one row"),
        ({"a": frames(3), "b": frames(4)}, "share one shape"),
        ({"a": frames(3)[0]}, "share one shape"),
        ({"a": frames(0)}, "share one shape"),
        ({"a": frames(3).astype(np.float32)}, "float32"),
    ],
)
def test_bad_rows_are_named(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        sheet.draw(rows, tmp_path / "s.png", "x")
    assert not (tmp_path / "s.png").exists()
