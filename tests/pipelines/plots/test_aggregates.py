"""Aggregate plot: intervals are drawn where they are known."""

import pytest
from PIL import Image

from pipelines.plots.aggregates import Line, Value, draw


def test_a_panel_per_aggregate_and_a_row_per_agent(tmp_path):
    lines = [
        Line("a", 0, True, {"IQM": Value(0.8, 0.7, 0.9)}),
        Line("b", 1, False, {"IQM": Value(0.5), "Gap": Value(1)}),
    ]
    draw(lines, ["IQM", "Gap"], tmp_path / "two.png")
    draw(lines[:1], ["IQM"], tmp_path / "one.png")
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.width > one.width and two.height > one.height
    assert (tmp_path / "two.png").stat().st_size < 60_000


def test_an_interval_shows(tmp_path):
    draw([Line("a", 0, True, {"IQM": Value(0.8, 0.1, 2.0)})], ["IQM"], tmp_path / "with.png")
    draw([Line("a", 0, True, {"IQM": Value(0.8)})], ["IQM"], tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no agent has an aggregate"):
        draw([], ["IQM"], tmp_path / "a.png")
