"""Rows: share of the behaviour's return, published rows, and ranks that intervals allow."""

from dataclasses import replace

import pytest

from pipelines.leaderboard.score_row import ScoreRow, published_rows, rank, share

ROW = ScoreRow(
    "demo", "Freeway", "greedy", protocol="jowa", rom_md5="8e0a", episodes=4, runs={"": (20.0, 21.0, 20.0, 21.0)}
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


def test_published_rows_have_intervals_only_where_episodes_were_released():
    rows = published_rows()
    assert len(rows) == 13 * 15 and {row.kind for row in rows} == {"published"}
    known = [row for row in rows if row.low is not None]
    assert len(known) == 3 * 15 and all(row.low <= row.mean + 0.05 and row.high >= row.mean - 0.05 for row in known)
    assert {row.unranked for row in rows if row.low is None} == {"mean only, no interval"}
    assert all(row.sources and row.rom_md5 == "" and row.seeds is None and row.episodes == 16 for row in rows)
    (assault,) = (row for row in known if (row.game, row.agent) == ("Assault", "JOWA 150M"))
    assert assault.hns == pytest.approx((assault.mean - 222.4) / (742.0 - 222.4))
    assert assault.hns_low < assault.hns < assault.hns_high


def test_ranks_stand_among_equals_only():
    better = replace(ROW, agent="better", runs={"": (30.0, 31.0, 30.0, 31.0)})
    alike = replace(better, agent="alike", runs={"": (30.5, 31.0, 30.0, 31.0)})
    other_rom, other_game = replace(better, rom_md5="c3ef"), replace(better, game="Boxing")
    unranked = replace(better, runs={"": (99.0,)}, unranked="one episode, no interval")
    found = rank([ROW, better, alike, other_rom, other_game, unranked])
    assert [row.rank for row in found] == [(3, 3), (1, 2), (1, 2), None, None, None]
