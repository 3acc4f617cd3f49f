"""The reconstruction sheet: rows of what was, what is drawn, and what is imagined from real and from own context."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.store.store import Store
from pipelines.training.device import Device
from pipelines.training.diagnostics import contact_sheet as sheets
from pipelines.training.inputs import sources
from tests.pipelines.training.toy_game import GAME, ToyAgent, ToyWorld, make_game


def test_every_row_of_a_toy_game(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, NDArray[np.uint8]] = {}
    titles: list[str] = []

    def draw(rows: dict[str, NDArray[np.uint8]], path: Path, title: str) -> None:
        drawn.update(rows)
        titles.append(title)

    monkeypatch.setattr(sheets.sheet, "draw", draw)
    data, cut = make_game(store, 10, 8)
    (source,) = sources([data], [cut], 1, [], tmp_path)
    world = ToyWorld(rise=10)
    sheets.draw_sheet(tmp_path / "sheet.png", ToyAgent(), world, source, 1, 8, Device("cpu", False))
    left = {name: row[:, 0, 0].tolist() for name, row in drawn.items()}
    assert left == {
        "original": [0, 2, 4, 6, 8, 10, 12, 14],
        "reconstruction": [3, 5, 7, 9, 11, 13, 15, 17],
        "one step ahead": [0, 13, 15, 17, 19, 21, 23, 25],  # last real frame + 10, and the tokenizer's bias of 3
        "free running from 4 steps": [0, 0, 0, 0, 19, 29, 39, 49],  # from real step 3, brightness 6
    }
    assert titles == [f"{GAME}, held-out play"]
    assert [context.tokens_NCK.shape[1] for context in world.contexts] == [1, 2, 3, 4, 5, 6, 7, 4]


def test_the_picture_is_written(store: Store, tmp_path: Path) -> None:
    data, cut = make_game(store, 10, 10)
    (source,) = sources([data], [cut], 1, [], tmp_path)
    path = tmp_path / "sheet.png"
    sheets.draw_sheet(path, ToyAgent(), ToyWorld(rise=2), source, 1, 8, Device("cpu", False))
    assert path.read_bytes().startswith(b"\x89PNG")
