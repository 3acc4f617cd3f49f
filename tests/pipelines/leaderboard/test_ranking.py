"""Blocks of agents that may be compared, their aggregates and ranks."""

from dataclasses import replace

import pytest

from pipelines.leaderboard.ranking import blocks
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
