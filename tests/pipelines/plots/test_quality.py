"""Behaviour data plot: parts without a finished episode are gaps, not zeros."""

import pytest
from PIL import Image

from pipelines.plots import quality


def test_draws_gaps_and_long_series(tmp_path):
    quality.draw({"Freeway": [0.0, None, 12.5, 18.0, 20.9], "Boxing": list(range(50))}, tmp_path / "q.png")
    with Image.open(tmp_path / "q.png") as image:
        assert image.format == "PNG" and image.width > image.height
    assert (tmp_path / "q.png").stat().st_size < 150_000


def test_a_gap_is_not_a_zero(tmp_path):
    quality.draw({"Freeway": [5.0, None, 10.0]}, tmp_path / "gap.png")
    quality.draw({"Freeway": [5.0, 0.0, 10.0]}, tmp_path / "zero.png")
    assert (tmp_path / "gap.png").read_bytes() != (tmp_path / "zero.png").read_bytes()


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no game"):
        quality.draw({}, tmp_path / "q.png")
