"""Sizes as a person reads them, and lines that say the sums."""

import io

import pytest
from rich.console import Console

from pipelines import progress
from pipelines.progress import size, track


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 kB"),
        (4_200, "4.2 kB"),
        (99_999, "100.0 kB"),
        (100_000, "0.1 MB"),
        (14_800_000, "14.8 MB"),
        (7_056_000_080, "7.06 GB"),
        (3e12, "3,000.00 GB"),
    ],
)
def test_a_size_shows_its_first_figures(count: float, text: str) -> None:
    assert size(count) == text


def test_where_there_is_no_terminal_the_last_step_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setenv("WORLDLINE_QUIET", "0")
    monkeypatch.setattr(progress, "console", Console(file=said, width=200))
    with track("Mirror", total=8_300, unit="bytes") as advance:
        advance(8_000)
        assert said.getvalue() == ""
        advance(300)
    assert said.getvalue().startswith("Mirror: 8.3 kB of 8.3 kB, ") and said.getvalue().endswith("/s, 0 s left\n")
    assert said.getvalue().count("\n") == 1
