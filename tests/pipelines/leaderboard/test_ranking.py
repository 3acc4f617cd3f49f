"""Blocks of agents that may be compared, their aggregates and ranks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.environments.atari.reference_scores import Claim, normalised
from pipelines.leaderboard.ranking import Reproduction, blocks, reproduced, reproductions
from pipelines.leaderboard.score_row import ScoreRow, published_rows


def row(game: str, *returns: float, agent: str = "demo", **fields: object) -> ScoreRow:
    """A measured row; its interval is only asked whether it is there."""
    mean = sum(returns) / len(returns)
    bounds = {"low": min(returns), "high": max(returns)} if len(returns) > 1 else {"unranked": "one episode"}
    made = ScoreRow(agent, game, "greedy", protocol="jowa", rom_md5=game, seeds=1, episodes=len(returns), mean=mean)
    return replace(made, runs={"": returns}, **(bounds | fields))  # type: ignore[arg-type]


def test_published_agents_are_one_block_ranked_where_intervals_are_known() -> None:
    (block,) = blocks(published_rows())
    assert len(block.standings) == 13 and block.title == "15 games, protocol jowa, 16 episodes a game, ROM not recorded"
    assert [(found.label, found.rank) for found in block.standings[:4]] == [
        ("JOWA 150M, beam", (1, 2)),
        ("JOWA 70M, beam", (1, 2)),
        ("JOWA 40M, beam", (3, 3)),
        ("JOWA 150M, greedy", None),
    ]
    assert all(found.unranked and not found.human_intervals for found in block.standings[3:])
    first, across, second = block.improvements
    assert (across.better, across.worse) == ("JOWA 150M, beam", "JOWA 40M, beam")
    assert (first.better, first.worse, first.games) == ("JOWA 150M, beam", "JOWA 70M, beam", 15)
    assert 0.5 < first.probability.low < second.probability.high < 0.8


def test_games_without_a_human_score_are_named_and_left_out() -> None:
    # human scores: Freeway 29.6 (random 0), Boxing 12.1 (random 0.1); AirRaid and Pooyan have none
    (block,) = blocks([row("Freeway", 14.0, 15.6), row("Boxing", 18.0, 18.2), row("AirRaid", 1.0, 2.0)])
    (found,) = block.standings
    assert found.without_human == ("AirRaid",) and found.human["iqm"] == pytest.approx(1.0)
    assert found.human_intervals["iqm"].low < 1.0 < found.human_intervals["iqm"].high
    assert block.title == "Freeway, Boxing, AirRaid, protocol jowa, 2 episodes a game, ROM recorded"
    assert found.left_out == [
        "No human score is known of AirRaid: left out of every HNS above.",
        "No DQN score is known of AirRaid: left out of every DNS above.",
    ]
    (older,) = blocks([row("Venture", 1187.5, 1187.5)])[0].standings
    assert older.human["iqm"] == 1 and older.dqn == {} and not older.unranked
    assert older.left_out == ["No DQN score is known of Venture: left out of every DNS above."]
    (lone,) = blocks([row("Pooyan", 1.0, 2.0)])[0].standings
    assert lone.human == {} and lone.unranked == "no game with a human score" and lone.dqn


def test_one_episode_or_a_limit_gives_no_rank() -> None:
    once = row("Freeway", 30.0, agent="once")
    cut = row("Freeway", 20.0, 21.0, agent="cut", limits="2 of 2 cut", unranked="limited")
    full = row("Freeway", 20.0, 22.0, agent="full")
    first, second = blocks([once, cut, full])
    assert [found.unranked for found in first.standings] == ["one episode"]
    assert not first.standings[0].human_intervals
    assert [(found.agent, found.unranked, found.rank) for found in second.standings] == [
        ("full", "", None),
        ("cut", "limited", None),
    ]
    assert second.standings[1].limited and second.apart == "2 episodes a game against 1"


def test_whole_evaluations_come_before_limited_ones_and_both_before_published_ones() -> None:
    cut = row("Freeway", 0.0, agent="cut", limits="1 of 1 cut after 12 steps", unranked="limited")
    whole = row("Freeway", 20.0, 22.0, agent="whole")
    assert [block.standings[0].agent for block in blocks([*published_rows(), cut, whole])] == [
        "whole",
        "cut",
        "JOWA 150M",
    ]


def test_other_games_protocols_and_roms_stand_apart() -> None:
    ours = [row("Freeway", 1.0, 2.0), row("Boxing", 1.0, 2.0)]
    more = row("Freeway", 1.0, 2.0, agent="b", protocol="sticky")
    elsewhere = row("Freeway", 1.0, 2.0, agent="c", protocol="sticky", rom_md5="c3ef")
    found = blocks([*ours, more, elsewhere])
    assert [block.apart for block in found] == [
        "",
        "other games (1 against 2, 1 in common); protocol sticky against jowa",
        "another ROM",
    ]


def test_a_game_scored_twice_counts_once() -> None:
    (block,) = blocks([row("Freeway", 20.0, 20.0, 20.0), row("Freeway", 10.0, 11.0)])
    assert block.standings[0].episodes == (3, 3) and block.standings[0].human["mean"] == pytest.approx(20 / 29.6)


# Mean, median and IQM of HNS as their authors' score files give them, worked out apart from this code, by rliable's
# definitions; EfficientZero and MuZero from game means alone.
RECOMPUTED = {
    "SimPLe": (0.3320, 0.1341, 0.1296),
    "MuZero": (0.5620, 0.2275, 0.2880),
    "EfficientZero": (1.9426, 1.0902, 1.0472),
    "IRIS": (1.0459, 0.2888, 0.5012),
    "TWM": (0.9562, 0.5054, 0.4592),
    "DreamerV3": (1.1245, 0.4852, 0.4870),
    "REM": (1.2220, 0.2804, 0.6732),
    "Delta-IRIS": (1.3833, 0.5936, 0.6822),
    "Simulus": (1.6453, 0.9819, 0.9904),
    "STORM": (1.222, 0.425, 0.561),
    "DIAMOND": (1.459, 0.373, 0.641),
}


# Optimality gap, and games above the human's score. IRIS's Pong is that score, 14.6, which its paper counts as a tenth.
GAPS = {
    "SimPLe": (0.729, 1),
    "IRIS": (0.512, 9),
    "TWM": (0.513, 8),
    "DreamerV3": (0.510, 9),
    "REM": (0.482, 12),
}


def test_gaps_and_superhuman_games_of_atari_100k_recomputed() -> None:
    found = {row.claim.agent: row.human for row in reproductions("Atari 100k")}
    for name, (gap, above) in GAPS.items():
        assert found[name]["optimality_gap"] == pytest.approx(gap, abs=6e-4) and found[name]["above"] == above, name


def test_published_agents_of_atari_100k_recomputed() -> None:
    found = {row.claim.agent: row for row in reproductions("Atari 100k")}
    assert {name for name, row in found.items() if row.human} == set(RECOMPUTED)
    for name, expected in RECOMPUTED.items():
        row = found[name]
        assert [row.human[statistic] for statistic in ("mean", "median", "iqm")] == pytest.approx(expected, abs=6e-4)
        assert row.dqn == {}, "PrivateEye and RoadRunner have no DQN score: over 24 games it would be another figure"
        assert row.seeds == (None if row.mark == "no raw seeds" else 5)
    iqm = found["REM"].human_intervals["iqm"]
    assert (iqm.low, iqm.high) == pytest.approx((0.619, 0.730), abs=0.01)  # rliable's interval of the same scores
    marks = {name: row.mark for name, row in found.items()}
    assert [name for name, mark in marks.items() if mark == "no"] == ["STORM"]
    assert found["STORM"].differences == [
        "Mean HNS 1.267 published, 1.222 recomputed",
        "Median HNS 0.584 published, 0.425 recomputed",
    ]
    assert {name for name, mark in marks.items() if mark == "yes"} == {
        *("SimPLe", "IRIS", "TWM", "DreamerV3", "REM", "DIAMOND")
    }
    assert marks["EfficientZero"] == marks["BBF"] == "no raw seeds" and marks["Simulus"] == "nothing published"


def test_jowa_is_reproduced_as_its_authors_corrected_it_and_not_as_the_paper_says() -> None:
    paper, corrected, *others = reproductions("DQN-Replay, 15 games")
    assert paper.differences == ["IQM HNS 0.789 published, 0.847 recomputed"] and paper.mark == "no"
    assert (corrected.mark, corrected.human["iqm"], corrected.dqn["iqm"]) == (
        "yes",
        pytest.approx(0.847, abs=5e-4),
        pytest.approx(1.195, abs=5e-4),
    )
    (block,) = blocks(published_rows())  # the same rollouts by the other way
    standings = {standing.label: standing for standing in block.standings}
    for row in others:
        label = row.claim.agent
        assert row.human["iqm"] == pytest.approx(standings[label].human["iqm"], abs=5e-4), label
        assert row.differences == [] and bool(row.human_intervals) == bool(standings[label].human_intervals)


def claim(figures: dict, scores: dict, unit: str = "seed") -> Reproduction:
    return reproduced(Claim("x", "Atari 100k", "", "a paper", figures, unit, scores, "a file", ""))  # type: ignore[arg-type]


SEEDS = st.dictionaries(
    st.sampled_from(["Freeway", "Boxing", "Pong", "Alien", "Qbert", "Hero"]),
    st.lists(st.floats(-100, 1e5), min_size=3, max_size=3),
    min_size=2,
)


@given(SEEDS, st.integers(1, 4), st.floats(-3, 3))
def test_a_figure_is_reproduced_within_one_unit_of_its_last_digit(
    seeds: dict[str, list[float]], digits: int, units: float
) -> None:
    scores = {game: {f"seed {at}": (value,) for at, value in enumerate(values)} for game, values in seeds.items()}
    true = float(np.mean([[normalised(game, value) for value in values] for game, values in seeds.items()]))
    printed = f"{true + units * 10.0**-digits:.{digits}f}"
    off = abs(float(printed) - true) * 10**digits
    row = claim({"human": {"mean": printed}}, scores)
    assert row.human["mean"] == pytest.approx(true)
    if abs(off - 1) > 0.01:
        assert row.mark == ("yes" if off < 1 else "no") and len(row.differences) == (off > 1)
    alone = claim({"human": {"mean": printed}}, scores, "game")
    assert alone.mark == "no raw seeds" and alone.differences == row.differences and not alone.human_intervals


@given(SEEDS, st.randoms())
def test_neither_the_order_of_games_nor_of_seeds_moves_what_is_recomputed(seeds, random) -> None:
    games = list(seeds)
    random.shuffle(games)
    shuffled = {game: random.sample(seeds[game], 3) for game in games}
    first, second = (
        claim({}, {game: {str(at): (value,) for at, value in enumerate(values)} for game, values in each.items()})
        for each in (seeds, shuffled)
    )
    assert first.mark == "nothing published" and second.human == pytest.approx(first.human)


def test_a_claim_without_scores_stays_a_claim() -> None:
    row = claim({"human": {"mean": "2.245"}}, {})
    assert (row.mark, row.human, row.differences, row.seeds) == ("no raw seeds", {}, [], None)
