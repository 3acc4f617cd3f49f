"""Sizes as a person reads them, and lines that say the sums."""

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from pipelines import progress
from pipelines.progress import printer, size, track


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


def test_nothing_is_said_where_an_earlier_run_left_nothing_to_do(said: io.StringIO) -> None:
    with track("Mirror", total=9_000, unit="bytes") as advance:
        advance(9_000, held=True)
    assert said.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_the_time_left_is_that_of_the_rest_at_the_pace_of_now(
    said: io.StringIO, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, now = Console(file=said, width=120, force_terminal=terminal), [0.0]
    monkeypatch.setattr(progress, "console", console)
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with track("Train", total=1_000, unit="steps") as advance:
        advance(900, held=True)
        now[0] = 2.0
        advance(22)  # 11 a second; with what was held it would be 461
        shown = said.getvalue()
        assert terminal or "Train: 922/1,000 steps, 11.0 steps/s, 7 s left" in shown
    assert not terminal or ("11.0 steps/s" in said.getvalue() and "0:00:07" in said.getvalue())


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


@pytest.mark.parametrize("unit", ["steps", "bytes"])
def test_at_80_columns_count_and_time_left_stay_and_the_note_gives_way(
    monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    monkeypatch.setenv("WORLDLINE_QUIET", "0")
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, width=80, force_terminal=True))
    with track("Select frames of MontezumaRevenge", total=10_000_000, unit=unit) as advance:
        advance(1_234_567, note="12,345 tokens/s observations 3.21 rewards 0.0123 ends 0.0456 td 0.789 cql 1.23")
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue()).strip().splitlines()[-1]
    assert len(last) <= 80
    assert re.search(r"1234567/10000000 .*… 0:00:0\d 0:00:\d\d$" if unit == "steps" else r"1.2/10.0 MB .*…", last), last


def test_tables_are_whole_where_nobody_s_terminal_cuts_them(capsys: pytest.CaptureFixture) -> None:
    table = Table("name", "what")
    table.add_row("reconstruction" * 9, "x" * 200)
    printer().print(table)
    assert "reconstruction" * 9 in (out := capsys.readouterr().out) and "x" * 200 in out
