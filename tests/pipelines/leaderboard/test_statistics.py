"""Aggregates against published numbers and hand-worked ones; intervals against known distributions."""

import json
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.environments.atari.reference_scores import normalised
from pipelines.leaderboard.statistics import (
    Interval,
    intervals,
    mean_interval,
    performance_profile,
    points,
    probability_of_improvement,
    ranks,
    run_interval,
)

DATA = json.loads(resources.files("pipelines.environments.atari").joinpath("scores.json").read_text())
SCORES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.lists(st.floats(-5, 20), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)


def alone(scores: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    """Games with one run."""
    return {game: {"": episodes} for game, episodes in scores.items()}


def rollouts(size: str, against: str) -> dict[str, dict[str, list[float]]]:
    """The authors' 16 returns a game, normalised."""
    games = DATA["rollouts"][size]
    return alone(
        {game: [normalised(game, score, against) for score in entry["returns"]] for game, entry in games.items()}
    )  # type: ignore[arg-type]


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
    found = intervals(alone({"a": [0.0, 1.0], "b": [2.0], "c": [0.25], "d": [4.0]}))  # means 0.5, 2, 0.25, 4
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
    one, both = intervals(alone({"a": [0.0, 1.0, 5.0]})), intervals(alone({"a": [0.0, 1.0, 5.0], "b": [2.0]}))
    assert both["mean"].low == pytest.approx((one["mean"].low + 2) / 2)


def test_probability_of_improvement_by_hand() -> None:
    found, games = probability_of_improvement(
        alone({"a": [1.0, 2.0], "b": [0.0], "z": [9.0]}), alone({"a": [1.0, 0.0], "b": [0.0]})
    )
    assert games == 2
    assert found.value == pytest.approx((0.875 + 0.5) / 2)  # a: three wins and a tie of four; b: a tie
    with pytest.raises(ValueError, match="No game in common"):
        probability_of_improvement(alone({"a": [1.0]}), alone({"b": [1.0]}))


def test_ranks_are_as_wide_as_the_overlaps() -> None:
    found = [Interval(5, 4, 6), Interval(9, 8, 10), Interval(6.5, 6, 7), Interval(1, 0, 2)]
    assert ranks(found) == [(2, 3), (1, 1), (2, 3), (4, 4)]
    assert ranks([]) == [] and ranks(found[:1]) == [(1, 1)]


def test_points_are_the_middles_of_intervals() -> None:
    scores = alone({"a": [0.0, 1.0], "b": [2.0]})
    assert points(scores) == {name: found.value for name, found in intervals(scores).items()}


def test_a_profile_counts_episodes_and_weighs_games_equally() -> None:
    found = performance_profile(alone({"a": [0.0, 1.0], "b": [3.0, 3.0, 3.0, 3.0]}), [-1.0, 0.5, 2.0, 3.0])
    assert found.share.tolist() == [1.0, 0.75, 0.5, 0.0]
    assert (found.low <= found.share).all() and (found.share <= found.high).all()
    assert found.low[1] == 0.5 and found.high[1] == 1.0


@pytest.mark.parametrize(
    "bad", [{}, {"a": {}}, {"a": {"": []}}, {"a": {"": [1.0], "s": []}}, {"a": {"": [float("nan")]}}]
)
def test_nothing_to_sum_up_is_refused(bad: dict[str, dict[str, list[float]]]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        intervals(bad)


def test_runs_weigh_equally_however_many_their_episodes() -> None:
    games = {"a": {"s0": [0.0] * 6, "s1": [3.0]}}
    assert points(games)["mean"] == 1.5
    assert performance_profile(games, [1.0]).share.tolist() == [0.5]
    better, _ = probability_of_improvement(games, {"a": {"t": [1.0]}})
    assert better.value == 0.5


def test_one_score_a_run_gives_rliable_s_aggregates() -> None:
    # Four games with three runs, by hand from arXiv 2108.13264, section 4.3: IQM and gap over all twelve
    runs = {"a": [0.0, 0.2, 0.4], "b": [0.5, 0.5, 0.8], "c": [0.9, 1.1, 1.3], "d": [2.0, 4.0, 6.0]}
    found = points({game: {f"s{place}": [value] for place, value in enumerate(found)} for game, found in runs.items()})
    assert found["iqm"] == pytest.approx((0.5 + 0.5 + 0.8 + 0.9 + 1.1 + 1.3) / 6)
    assert found["optimality_gap"] == pytest.approx((1.0 + 0.8 + 0.6 + 0.5 + 0.5 + 0.2 + 0.1) / 12)
    assert found["median"] == pytest.approx((0.6 + 1.1) / 2) and found["above"] == 2
    assert found["mean"] == pytest.approx(np.mean(list(runs.values())))


def test_games_with_unequal_runs_count_by_their_means() -> None:
    found = points({"a": {"s0": [0.0], "s1": [1.0]}, "b": {"s0": [2.0]}})
    assert found["iqm"] == pytest.approx(1.25) and found["optimality_gap"] == pytest.approx(0.25)


def test_the_interval_of_many_runs_is_as_wide_as_runs_differ() -> None:
    generator = np.random.default_rng(0)
    means = generator.normal(10, 3, 40)
    found = run_interval({f"{place:02}": generator.normal(mean, 1, 16).tolist() for place, mean in enumerate(means)})
    error = means.std() / 40**0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    shuffled = mean_interval(
        generator.normal(10, 3, 640).tolist()
    )  # as many episodes and no runs: a sixth of the width
    assert found.high - found.low > 3 * (shuffled.high - shuffled.low)


def test_games_of_one_network_share_its_luck_and_games_of_several_do_not() -> None:
    # a good and a bad run: over 40 games the luck of one network does not average out, that of forty does
    good_and_bad = [[1.0] * 8, [0.0] * 8]
    shared = {f"g{game}": dict(zip(("s0", "s1"), good_and_bad, strict=True)) for game in range(40)}
    own = {f"g{game}": dict(zip((f"g{game}s0", f"g{game}s1"), good_and_bad, strict=True)) for game in range(40)}
    together, apart = intervals(shared)["mean"], intervals(own)["mean"]
    assert (together.low, together.high) == (0.0, 1.0)
    assert 0.35 < apart.low < apart.high < 0.65


def test_two_runs_of_equal_means_are_not_certain() -> None:
    found = run_interval({"s0": [0.0, 2.0] * 4, "s1": [1.0, 1.0] * 4})
    assert found.value == 1.0 and found.low < 0.8 < 1.2 < found.high


@given(SCORES)
def test_intervals_are_ordered_repeatable_and_within_the_data(scores: dict[str, list[float]]) -> None:
    found = intervals(alone(scores), resamples=50)
    assert found == intervals(alone(dict(reversed(list(scores.items())))), resamples=50)
    everything = [value for episodes in scores.values() for value in episodes]
    for name in ("mean", "median", "iqm"):
        assert min(everything) - 1e-9 <= found[name].low <= found[name].high <= max(everything) + 1e-9


@given(SCORES)
def test_an_improvement_and_its_opposite_sum_to_one(scores: dict[str, list[float]]) -> None:
    other = {game: [value + 1 for value in episodes[::-1]] for game, episodes in scores.items()}
    there, _ = probability_of_improvement(alone(scores), alone(other), resamples=20)
    back, _ = probability_of_improvement(alone(other), alone(scores), resamples=20)
    assert there.value + back.value == pytest.approx(1)
    assert there.value <= 0.5 + 1e-12
