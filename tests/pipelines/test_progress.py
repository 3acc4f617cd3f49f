"""Sizes as a person reads them, and lines that say the sums."""

import io

import pytest
from rich.console import Console

from pipelines import progress
from pipelines.progress import size, track


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed where there is no terminal."""
    monkeypatch.setenv("WORLDLINE_QUIET", "0")
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, width=200))
    return text


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


def test_where_there_is_no_terminal_the_last_step_is_a_line(said: io.StringIO) -> None:
    with track("Mirror", total=8_300, unit="bytes") as advance:
        advance(8_000)
        assert said.getvalue() == ""
        advance(300)
    assert said.getvalue().startswith("Mirror: 8.3 kB of 8.3 kB, ") and said.getvalue().endswith("/s, 0 s left\n")
    assert said.getvalue().count("\n") == 1


def test_what_an_earlier_run_left_says_nothing_of_the_rate(said: io.StringIO) -> None:
    with track("Mirror", total=9_000, unit="bytes") as advance:
        advance(9_000, held=True)
    assert said.getvalue() == ""  # and nothing at all when it left nothing to do
    with track("Mirror", total=9_000, unit="bytes") as advance:
        advance(8_999, held=True)
        advance(1)
    assert said.getvalue().startswith("Mirror: 9.0 kB of 9.0 kB, 0.")


def test_a_restart_takes_back_what_was_done(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    with track("Mirror", total=9_000, unit="bytes") as advance:
        advance(4_000, held=True)
        advance(-4_000)
        advance(9_000)
    lines = said.getvalue().splitlines()
    assert lines[0].endswith("4.0 kB of 9.0 kB, 0.0 kB/s, nothing came yet")
    assert lines[1].startswith("Mirror: 0.0 kB of 9.0 kB")
    assert lines[2].startswith("Mirror: 9.0 kB of 9.0 kB") and lines[2].endswith("/s, 0 s left")
