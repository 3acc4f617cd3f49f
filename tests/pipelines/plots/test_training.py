"""Learning curves: what counts as a loss, phases that restart their step, small files. Sheets show exact pixels."""

import numpy as np
import pytest
from PIL import Image

from pipelines.plots import training


def rows(phase, losses, count):
    return [
        {"phase": phase, "step": 5 * step, "seconds": 0.1 * step}
        | {name: 3.0 / (1 + step) + place for place, name in enumerate(losses)}
        for step in range(count)
    ]


def test_two_phases_give_one_small_png(tmp_path):
    table = rows("tokenizer", ["reconstruction", "commitment"], 200) + rows("world_model", ["observations"], 3)
    training.draw_curves(table, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG" and image.width > 800
        assert len(image.getcolors(1 << 20)) > 4
    assert (tmp_path / "curves.png").stat().st_size < 150_000


def test_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        training.draw_curves(rows("tokenizer", ["reconstruction"], 60), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_losses_are_the_numbers_in_order_of_appearance():
    table = [
        {"phase": "a", "step": 0, "seconds": 0.0, "total": 2, "note": "warm", "skipped": True},
        {"phase": "b", "step": 0, "seconds": 0.0, "ends": 0.5, "total": None},
    ]
    assert training.loss_names(table) == ["total", "ends"]


def test_a_phase_that_starts_at_zero_again_is_moved_behind_the_first():
    table = rows("tokenizer", ["x"], 3) + rows("world_model", ["x"], 3)
    assert training._positions(table).tolist() == [0, 5, 10, 10, 15, 20]


def test_a_phase_that_counts_on_is_left_alone():
    table = [{"phase": phase, "step": step, "x": 1.0} for phase, step in (("a", 0), ("a", 9), ("b", 10), ("b", 11))]
    assert training._positions(table).tolist() == [0, 9, 10, 11]


def test_smoothing_invents_nothing():
    assert np.allclose(training._smooth(np.full(100, 2.5)), 2.5)
    assert np.allclose(training._smooth(np.array([0.0, 3.0, 6.0])), [1.5, 3.0, 4.5])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0])
def test_awkward_values_are_drawn_or_named_not_fatal(tmp_path, value):
    table = [{"phase": "a", "step": step, "seconds": 0.0, "x": value} for step in range(3)]
    training.draw_curves(table, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 500


def test_no_loss_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no loss"):
        training.draw_curves([{"phase": "a", "step": 0, "seconds": 0.0}], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def frames(steps, seed=0):
    made = np.zeros((steps, 84, 84), dtype=np.uint8)
    generator = np.random.default_rng(seed)
    for step in range(steps):
        y, x = generator.integers(0, 70, size=2)
        made[step, y : y + 9, x : x + 5] = 200
    return made


def test_pixels_survive(tmp_path):
    original = frames(8)
    training.draw_sheet({"original": original, "free-running prediction": frames(8, 1)}, tmp_path / "s.png", "Freeway")
    with Image.open(tmp_path / "s.png") as image:
        page = np.asarray(image)
    left, top = training.LABEL, training.TITLE + training.STEPS
    assert np.array_equal(page[top : top + 168 : 2, left : left + 168 : 2], original[0])
    second = left + 168 + training.GAP
    assert np.array_equal(page[top + 1 : top + 168 : 2, second + 1 : second + 168 : 2], original[1])
    assert (tmp_path / "s.png").stat().st_size < 150_000


def test_colours_survive(tmp_path):
    coloured = np.stack([frames(4), frames(4, 1), frames(4, 2)], axis=-1)
    training.draw_sheet({"original": coloured}, tmp_path / "s.png", "Freeway")
    with Image.open(tmp_path / "s.png") as image:
        page = np.asarray(image)
    left, top = training.LABEL, training.TITLE + training.STEPS
    assert np.array_equal(page[top : top + 168 : 2, left : left + 168 : 2], coloured[0])


def test_many_steps_shrink_to_single_pixels(tmp_path):
    training.draw_sheet({"original": frames(12)}, tmp_path / "s.png", "Boxing")
    with Image.open(tmp_path / "s.png") as image:
        assert image.width == training.LABEL + 12 * (84 + training.GAP) + training.EDGE


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
        training.draw_sheet(rows, tmp_path / "s.png", "x")
    assert not (tmp_path / "s.png").exists()
