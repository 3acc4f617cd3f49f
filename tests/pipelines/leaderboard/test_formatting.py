"""How numbers are written."""

import pytest

from pipelines.leaderboard import formatting as wording


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
    assert wording.num(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "\N{EN DASH}"), (0.04, "0.0 s"), (61.0, "61.0 s"), (100.0, "1 min 40 s"), (7260.0, "2 h 01 min")],
)
def test_clock(seconds, text):
    assert wording.clock(seconds) == text


def test_percent_and_whole():
    assert wording.percent(-0.051) == "\N{MINUS SIGN}5%" and wording.percent(None) == "\N{EN DASH}"
    assert wording.whole(30000) == "30,000" and wording.whole(None) == "\N{EN DASH}"


def test_megabytes():
    assert [wording.megabytes(value) for value in (0.0, 0.004, 0.005, 1234.567)] == [
        "0.00",
        "< 0.01",
        "0.01",
        "1,234.57",
    ]
    assert wording.megabytes(None) == "\N{EN DASH}"


def test_scores_and_their_intervals():
    assert [wording.fixed(value) for value in (None, 1.1951, -0.05, 1234.5)] == [
        "\N{EN DASH}",
        "1.195",
        "\N{MINUS SIGN}0.050",
        "1,234.500",
    ]
    assert wording.ranged(0.847, 0.79, 0.908, wording.fixed) == "0.847 [0.790, 0.908]"
    assert wording.ranged(20.25, None, None, wording.num) == "20.25"
    assert wording.ranged(None, 1.0, 2.0, wording.num) == "\N{EN DASH}"


def test_a_rank_is_a_range_where_intervals_overlap():
    assert [wording.ranking(rank) for rank in (None, (3, 3), (1, 2))] == ["", "3", "1 to 2"]
