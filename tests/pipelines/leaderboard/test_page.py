"""How numbers are written, and pictures that are too large to embed."""

import pytest

from pipelines.leaderboard import page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0"),
        (20.25, "20.25"),
        (-3.5, "\N{MINUS SIGN}3.5"),
        (1234567.0, "1,234,567"),
        (9999.7, "10,000"),
        (0.00001234, "1.234e\N{MINUS SIGN}05"),
    ],
)
def test_num(value, text):
    assert page.num(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "\N{EN DASH}"), (0.04, "0.0 s"), (61.0, "61.0 s"), (100.0, "1 min 40 s"), (7260.0, "2 h 01 min")],
)
def test_clock(seconds, text):
    assert page.clock(seconds) == text


def test_percent_and_whole():
    assert page.percent(-0.051) == "\N{MINUS SIGN}5%" and page.percent(None) == "\N{EN DASH}"
    assert page.whole(30000) == "30,000" and page.whole(None) == "\N{EN DASH}"


def test_megabytes():
    assert [page.megabytes(value) for value in (0.0, 0.004, 0.005, 1234.567)] == ["0.00", "< 0.01", "0.01", "1,234.57"]
    assert page.megabytes(None) == "\N{EN DASH}"


def test_large_picture_is_named_not_embedded(tmp_path):
    path = tmp_path / "play.gif"
    path.write_bytes(b"GIF89a" + bytes(page.EMBED_UP_TO))
    found = page.picture(path, "alt", "demo plays Pong")
    assert found.source == "" and "3.1 MB, see play.gif" in found.caption
    path.write_bytes(b"GIF89a")
    assert page.picture(path, "alt", "x").source == "data:image/gif;base64,R0lGODlh"
