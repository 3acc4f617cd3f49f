"""Share of the behaviour's return, and summaries over games."""

from dataclasses import replace

import pytest

from pipelines.leaderboard.headline import Headline, share, summaries

ROW = Headline(
    experiment="demo",
    game="Freeway",
    planner="greedy",
    settings="",
    protocol="jowa",
    episodes=8,
    mean=20.0,
    std=1.0,
    median=20.0,
    iqm=20.0,
    clipped_mean=20.0,
    mean_length=2048.0,
    random_mean=0.0,
    behaviour_mean=20.0,
    share=1.0,
    hns=0.5,
    dns=0.6,
    limits="",
    score="scores/Freeway/0",
)


@pytest.mark.parametrize(
    ("mean", "random", "behaviour", "expected"),
    [
        (15.0, 0.0, 20.0, 0.75),
        (-21.0, -20.0, 0.0, -0.05),
        (5.0, -20.0, 5.0, 1.0),
        (5.0, 3.0, 3.0, None),  # data no better than random: a share would divide by nothing
        (5.0, 3.0, 2.0, None),
        (None, 0.0, 1.0, None),
        (1.0, None, 1.0, None),
        (1.0, 0.0, None, None),
    ],
)
def test_share(mean, random, behaviour, expected):
    assert share(mean, random, behaviour) == (expected if expected is None else pytest.approx(expected))


def test_one_game_has_no_summary():
    assert summaries([ROW, replace(ROW, planner="beam"), ROW]) == []


def test_summary_over_games_counts_only_what_is_known():
    # human scores: Freeway 29.6 (random 0), Boxing 12.1 (random 0.1); AirRaid has none
    rows = [
        replace(ROW, mean=14.8, hns=0.5),
        replace(ROW, game="Boxing", mean=18.1, share=0.5, hns=1.5),
        replace(ROW, game="AirRaid", share=None, hns=None),
    ]
    (found,) = summaries(rows)
    assert (found.games, found.referenced, found.above_human) == (3, 2, 1)
    assert found.median_share == 0.75 and not found.limited
    assert found.median_hns == pytest.approx(1.0) and found.iqm_hns == pytest.approx(1.0)


def test_summary_of_games_without_references():
    rows = [replace(ROW, game=game, hns=None, dns=None, share=None) for game in ("AirRaid", "Carnival")]
    (found,) = summaries(rows)
    assert (found.games, found.referenced, found.median_hns, found.median_share) == (2, 0, None, None)


def test_summary_of_limited_rows_says_so():
    (found,) = summaries([ROW, replace(ROW, game="Boxing", limits="2 of 2 cut after 500 steps")])
    assert found.limited
