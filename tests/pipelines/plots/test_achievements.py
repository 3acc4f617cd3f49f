"""Success rates as a picture: long names leave the bars their room."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.plots.achievements import Rates, draw_rates
from pipelines.plots.scores import Value


@pytest.mark.parametrize("agents", [1, 2, 8])
@pytest.mark.parametrize("tasks", [1, 22])
def test_names_of_many_seeds_leave_the_bars_their_room(tmp_path: Path, agents: int, tasks: int) -> None:
    seeds = " + ".join(f"drawer-prelar_mini_scratch-seed{seed}-3e0977e3" for seed in range(3))
    rates = {f"task {task}": Value(100.0, 90.0, 100.0) for task in range(tasks)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a legend leaves no room
        draw_rates([Rates(f"{seeds}, greedy {place}", rates) for place in range(agents)], tmp_path / "x.png", 100)
    pixels = np.asarray(Image.open(tmp_path / "x.png").convert("RGB")).astype(int)
    blue_HW = np.abs(pixels - (0x2B, 0x6C, 0xA3)).sum(2) < 60
    assert blue_HW.sum(1).max() > pixels.shape[1] / 2, "the first agent's bar, of 100%, spans most of the picture"
    assert (pixels[:, -3:] > 240).all(), "nothing is cut off at the right"
