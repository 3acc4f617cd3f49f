"""Aggregates against published numbers and against scipy-free derivations; intervals against known distributions."""

import json
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.atari.scores import normalised
from pipelines.leaderboard.statistics import (
    Interval,
    intervals,
    mean_interval,
    performance_profile,
    points,
    probability_of_improvement,
    ranks,
)

DATA = json.loads(resources.files("pipelines.atari").joinpath("scores.json").read_text())
SCORES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.lists(st.floats(-5, 20), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)


def rollouts(size: str, against: str) -> dict[str, list[float]]:
    """The authors' 16 returns a game, normalised."""
    games = DATA["jowa_rollouts"][size]
    return {game: [normalised(game, score, against) for score in entry["returns"]] for game, entry in games.items()}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "hns", "dns", "above"),
    [("150M", 0.847, 1.195, 6), ("70M", 0.802, 0.952, None), ("40M", 0.664, 0.772, None)],
)
def test_the_authors_rollouts_give_their_published_aggregates(
    size: str, hns: float, dns: float, above: int | None
) -> None:
    human, dqn = intervals(rollouts(size, "human")), intervals(rollouts(size, "dqn"))
    assert human["iqm"].value == pytest.approx(hns, abs=5e-4)
    assert dqn["iqm"].value == pytest.approx(dns, abs=5e-4)
    if above is not None:
        assert human["above"].value == above
    assert human["iqm"].low < human["iqm"].value < human["iqm"].high


def test_aggregates_by_hand() -> None:
    found = intervals({"a": [0.0, 1.0], "b": [2.0], "c": [0.25], "d": [4.0]})  # means 0.5, 2, 0.25, 4
    assert found["mean"].value == 1.6875
    assert found["median"].value == 1.25
    assert found["iqm"].value == 1.25
    assert found["optimality_gap"].value == pytest.approx((0.5 + 0.75) / 4)
    assert found["above"].value == 2


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    episodes = np.random.default_rng(0).normal(10, 3, 400)
    found = mean_interval(episodes.tolist(), resamples=4000)
    error = episodes.std() / 20
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.1 * error)


def test_one_episode_gives_no_width_and_a_game_s_draws_ignore_other_games() -> None:
    assert mean_interval([3.0]) == Interval(3.0, 3.0, 3.0)
    alone, both = intervals({"a": [0.0, 1.0, 5.0]}), intervals({"a": [0.0, 1.0, 5.0], "b": [2.0]})
    assert both["mean"].low == pytest.approx((alone["mean"].low + 2) / 2)


def test_probability_of_improvement_by_hand() -> None:
    found, games = probability_of_improvement({"a": [1.0, 2.0], "b": [0.0], "z": [9.0]}, {"a": [1.0, 0.0], "b": [0.0]})
    assert games == 2
    assert found.value == pytest.approx((0.875 + 0.5) / 2)  # a: three wins and a tie of four; b: a tie
    with pytest.raises(ValueError, match="No game in common"):
        probability_of_improvement({"a": [1.0]}, {"b": [1.0]})


def test_ranks_are_as_wide_as_the_overlaps() -> None:
    found = [Interval(5, 4, 6), Interval(9, 8, 10), Interval(6.5, 6, 7), Interval(1, 0, 2)]
    assert ranks(found) == [(2, 3), (1, 1), (2, 3), (4, 4)]
    assert ranks([]) == [] and ranks(found[:1]) == [(1, 1)]


def test_points_are_the_middles_of_intervals() -> None:
    scores = {"a": [0.0, 1.0], "b": [2.0]}
    assert points(scores) == {name: found.value for name, found in intervals(scores).items()}


def test_a_profile_counts_episodes_and_weighs_games_equally() -> None:
    found = performance_profile({"a": [0.0, 1.0], "b": [3.0, 3.0, 3.0, 3.0]}, [-1.0, 0.5, 2.0, 3.0])
    assert found.share.tolist() == [1.0, 0.75, 0.5, 0.0]
    assert (found.low <= found.share).all() and (found.share <= found.high).all()
    assert found.low[1] == 0.5 and found.high[1] == 1.0


@pytest.mark.parametrize("bad", [{}, {"a": []}, {"a": [float("nan")]}])
def test_nothing_to_sum_up_is_refused(bad: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        intervals(bad)


@given(SCORES)
def test_intervals_are_ordered_repeatable_and_within_the_data(scores: dict[str, list[float]]) -> None:
    found = intervals(scores, resamples=50)
    assert found == intervals(dict(reversed(list(scores.items()))), resamples=50)
    everything = [value for episodes in scores.values() for value in episodes]
    for name in ("mean", "median", "iqm"):
        assert min(everything) - 1e-9 <= found[name].low <= found[name].high <= max(everything) + 1e-9


@given(SCORES)
def test_an_improvement_and_its_opposite_sum_to_one(scores: dict[str, list[float]]) -> None:
    other = {game: [value + 1 for value in episodes[::-1]] for game, episodes in scores.items()}
    there, _ = probability_of_improvement(scores, other, resamples=20)
    back, _ = probability_of_improvement(other, scores, resamples=20)
    assert there.value + back.value == pytest.approx(1)
    assert there.value <= 0.5 + 1e-12
