"""Performance profiles: a panel per block."""

import numpy as np
import pytest
from PIL import Image

from pipelines.plots.profiles import Curve, Panel, draw


def test_a_panel_per_block(tmp_path):
    tau = np.linspace(0, 2, 20)
    panel = Panel(
        "15 games", (Curve("a", tau, 1 - tau / 2, 0.9 - tau / 2, 1.1 - tau / 2), Curve("b", tau, *[tau * 0] * 3))
    )
    draw([panel], tmp_path / "one.png")
    draw([panel, panel], tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.width == 2 * one.width and two.height == one.height


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no agent has an episode"):
        draw([], tmp_path / "a.png")
