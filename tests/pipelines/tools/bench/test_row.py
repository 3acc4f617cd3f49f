"""What counts as reached, and how it is said."""

import json
from dataclasses import replace

from pipelines.tools.bench.row import Row, table

ROW = Row("size", "bytes", "raw", "1 MB", "30 MB", 30.0, 20.0, conditions=(("lossless", True),), notes=("of Pong",))


def test_an_aim_needs_the_ratio_and_every_condition() -> None:
    assert ROW.reached
    assert replace(ROW, ratio=20.0).reached
    assert not replace(ROW, ratio=19.99).reached
    assert not replace(ROW, conditions=(("lossless", True), ("small", False))).reached


def test_the_table_says_what_was_missed() -> None:
    missed = replace(ROW, ratio=3.0, cpu_ratio=4.0, conditions=(("lossless", False),))
    text = table([ROW, missed])
    assert "| bytes | 1 MB | raw | 30 MB | 30.0 | 20 | yes |" in text
    assert "| bytes | 1 MB | raw | 30 MB | 3.0 (4.0) | 20 | NO |" in text
    assert "- size: lossless: met" in text and "- size: lossless: NOT MET" in text and "- size: of Pong" in text


def test_rows_are_json() -> None:
    assert json.loads(json.dumps(ROW.plain()))["reached"] is True
