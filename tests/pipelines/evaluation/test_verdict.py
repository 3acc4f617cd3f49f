"""What looking ahead found, from hand-made worths: each kind of failure is named."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.evaluation.look_ahead import Looked, play_returns
from pipelines.evaluation.verdict import correlation, errors_of, findings, mean_ranks, ranked, ranks

ACTIONS = ["NOOP", "UP", "DOWN"]
NONE_SA = np.zeros((4, 3))
TRUE_SA = np.array([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0], [1.0, 2.0, 0.0], [0.5, 2.0, 1.0]])
KNOWN = (TRUE_SA.max(1), np.ones(4, bool))
APART = (np.full(4, 3.0), np.full(4, 4.0))
RIGHT = Looked(TRUE_SA, NONE_SA, TRUE_SA, NONE_SA, TRUE_SA, *KNOWN, NONE_SA, NONE_SA > 0, NONE_SA > 0, *APART)


def points(greedy: float, imagined: float, emulator: float, search: float | None = None) -> dict[str, np.ndarray]:
    """Of three seeds that differ more than the choices do."""
    spread = np.array([-10.0, 0.0, 10.0])
    found = {"greedy": greedy, "imagined": imagined, "emulator": emulator}
    found["search"] = imagined if search is None else search
    return {name: mean + spread for name, mean in found.items()}


def test_where_all_is_right_nothing_fails_and_all_agree() -> None:
    found = findings(RIGHT, points(1, 2, 2), 0.9, ACTIONS, np.array([0.2, 0.5, 0.3]))
    assert found.fails == "nothing" and "gains 1 points" in found.words
    assert found.best_by_q == found.best_by_imagined == found.best_by_real == [1, 2, 1]
    assert found.q_agrees_with_real == found.ranks_q_real == found.ranks_imagined_real == found.rewards_right == 1
    assert found.imagined_error == found.promised == 0
    assert found.returns_correlation is None and found.returns_excess == 0, "max Q is 2 everywhere"


def test_a_world_model_that_hardly_reads_actions_is_told_of() -> None:
    assert "hardly reads actions" not in findings(RIGHT, points(1, 2, 2), 0.9, ACTIONS, None).words
    deaf = findings(replace(RIGHT, imagined_apart_S=np.full(4, 1.9)), points(1, 2, 2), 0.9, ACTIONS, None)
    assert "differ in 4 tokens in the emulator and in 1.9 in imagination" in deaf.words
    assert (deaf.apart, deaf.imagined_apart) == (4, pytest.approx(1.9))


def test_values_that_mislead_even_a_perfect_world_model_are_convicted() -> None:
    lured = replace(RIGHT, q_SA=-TRUE_SA)
    found = findings(lured, points(3, 1, 1), 0.9, ACTIONS, np.array([0.2, 0.5, 0.3]))
    assert found.fails == "values" and "worse than the best Q (1 against 3 points)" in found.words
    assert found.ranks_q_real == -1 and found.promised == pytest.approx(0.9 * np.mean(TRUE_SA.max(1) - TRUE_SA.min(1)))
    assert findings(lured, {}, 0.9, ACTIONS, None).fails == "values"


def test_a_world_model_that_loses_what_a_perfect_one_gains_is_convicted() -> None:
    blurred = replace(RIGHT, imagined_SA=TRUE_SA[:, ::-1])
    found = findings(blurred, points(1, 1, 4), 0.9, ACTIONS, None)
    assert found.fails == "world model" and "gains 3 points a play and this one gains 0" in found.words
    assert findings(blurred, {}, 0.9, ACTIONS, None).fails == "world model"


def test_a_search_that_loses_what_one_step_gains_convicts_the_planner() -> None:
    found = findings(RIGHT, points(1, 4, 4, search=1), 0.9, ACTIONS, None)
    assert found.fails == "planner" and "gains 3 points a play" in found.words and "the search 0" in found.words
    assert found.gains["search"] == (0, 0) and found.gains["imagined"] == (3, 0)


@pytest.mark.parametrize(
    ("emulator", "fails"),
    [
        ([1, 1, 1], "values"),  # each seed by a point: a small gain, and sure to be none
        ([9, -3, 6], "undecided"),
        ([-9, -3, -6], "values"),
        ([9, 8, 10], "nothing"),
    ],
)
def test_what_plays_too_few_leave_open_is_undecided(emulator: list[int], fails: str) -> None:
    greedy = np.array([10.0, 30.0, 20.0])
    better = {"greedy": greedy, **dict.fromkeys(("imagined", "emulator", "search"), greedy + emulator)}
    if emulator == [1, 1, 1]:
        better["emulator"] = greedy
    assert findings(RIGHT, better, 0.9, ACTIONS, None).fails == fails


@pytest.mark.parametrize("plays", [2, 3, 4, 10, 11, 12, 20, 60, 1000])
def test_an_interval_of_few_plays_is_students(plays: int) -> None:
    assert errors_of(plays) == pytest.approx(stats.t.ppf(0.975, plays - 1), abs=3e-3)


@pytest.mark.parametrize(("plays", "fails"), [(3, "undecided"), (24, "nothing")])
def test_a_gain_of_three_standard_errors_decides_nothing_in_three_plays(plays: int, fails: str) -> None:
    """Its spread is hardly known then; 24 plays know theirs."""
    away = np.resize([-1.0, 0.0, 1.0], plays)
    gained = 3 * away.std(ddof=1) / np.sqrt(plays)
    played = dict.fromkeys(("imagined", "emulator", "search"), gained + away)
    found = findings(RIGHT, {"greedy": np.zeros(plays), **played}, 0.9, ACTIONS, None)
    mean, error = found.gains["emulator"]
    assert mean / error == pytest.approx(3) and found.fails == fails


def test_where_nobody_scores_nothing_is_convicted() -> None:
    found = findings(
        RIGHT, dict.fromkeys(("greedy", "imagined", "emulator", "search"), np.zeros(4)), 0.9, ACTIONS, None
    )
    assert found.fails == "undecided" and "raise diagnose.steps" in found.words
    alike = findings(RIGHT, points(2, 2, 2), 0.9, ACTIONS, None)
    assert alike.fails == "undecided" and "the same points in every play" in alike.words


@pytest.mark.parametrize("failing", ["imagined", "search"])
@pytest.mark.parametrize(("brought", "decided"), [([0, 1, -1], True), ([9, -3, 6], False)])
def test_a_part_is_convicted_only_where_another_choice_is_surely_better(
    failing: str, brought: list[int], decided: bool
) -> None:
    greedy = np.array([10.0, 30.0, 20.0])
    played = {"greedy": greedy, **dict.fromkeys(("imagined", "emulator", "search"), greedy + np.array([9, 8, 10]))}
    played[failing] = greedy + brought
    found = findings(RIGHT, played, 0.9, ACTIONS, None)
    assert found.fails == ({"imagined": "world model", "search": "planner"}[failing] if decided else "undecided")
    assert decided or "4, standard error 3.6: raise diagnose.episodes" in found.words


def test_real_ends_are_told_apart_from_what_a_search_reads() -> None:
    """A step that ends the game is worth 0 in the emulator and 9 to a search: no fault of the frames."""
    ends_SA, dead_SA, lure_SA = NONE_SA > 0, TRUE_SA.copy(), TRUE_SA.copy()
    ends_SA[0, 2], dead_SA[0, 2], lure_SA[0, 2] = True, 0.0, 9.0
    ended = replace(RIGHT, real_SA=dead_SA, imagined_SA=lure_SA, ends_SA=ends_SA)
    found = findings(ended, {}, 1.0, ACTIONS, None)
    assert (found.imagined_error, found.going_error) == (9 / 12, 0) and (found.ends, found.imagined_ends) == (1 / 12, 0)
    assert findings(replace(ended, ends_SA=~(NONE_SA > 0)), {}, 1.0, ACTIONS, None).going_error is None


def test_rewards_count_beside_worths() -> None:
    told = replace(RIGHT, real_rewards_SA=np.array([[9.0, 0.0, 0.0]] * 4), real_SA=NONE_SA)
    found = findings(told, {}, 0.9, ACTIONS, None)
    assert found.best_by_real == [4, 0, 0] and found.rewards_right == pytest.approx(2 / 3)


def test_rare_actions_that_lure_are_seen_and_actions_without_data_left_out() -> None:
    lured = replace(RIGHT, real_SA=np.array([[0.0, 1.0, 2.0]] * 4))
    assert findings(lured, {}, 0.9, ACTIONS, np.array([0.9, 0.09, 0.01])).rarity_bias == pytest.approx(-1, abs=1e-2)
    assert findings(lured, {}, 0.9, ACTIONS, np.array([0.5, 0.5, 0.0])).rarity_bias is None, "shares do not vary"


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_ranks_are_those_of_counting(values: list[int]) -> None:
    expected = [sum(v < w for v in values) + (values.count(w) - 1) / 2 for w in values]
    assert ranks(np.array(values, float)).tolist() == pytest.approx(expected)


def test_rank_correlation_leaves_out_states_in_which_all_is_equal() -> None:
    one, other = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]), np.array([[10.0, 20.0, 99.0], [1.0, 2.0, 3.0]])
    assert mean_ranks(one, other) == pytest.approx(1)
    assert mean_ranks(one[1:], other[1:]) == 0 and correlation(one[1], other[1]) is None


def test_returns_of_a_play_and_what_lies_beyond_it() -> None:
    going = np.zeros(4, bool)
    returns, beyond = play_returns(np.array([1.0, 2.0, 0.0, 4.0]), np.array([False, True, False, False]), going, 0.5)
    assert returns.tolist() == [2.0, 2.0, 2.0, 4.0]
    assert beyond.tolist() == [0.0, 0.0, 0.25, 0.5]


def test_a_return_ends_where_the_rules_cut_an_episode_and_what_came_then_is_unknown() -> None:
    cuts = np.array([False, True, False, False])
    returns, beyond = play_returns(np.array([0.0, 2.0, 8.0, 0.0]), np.zeros(4, bool), cuts, 0.5)
    assert returns.tolist() == [1.0, 2.0, 8.0, 0.0] and beyond.tolist() == [0.25, 0.5, 0.25, 0.5]


def test_rewards_that_gain_alone_are_told_with_whether_they_are_foreseen() -> None:
    rewards_SA = np.array([[0.0, 1, 0], [0, 0, -1], [0, 0, 0], [0, 1, 0]])
    rewarded, played = (
        replace(RIGHT, real_rewards_SA=rewards_SA),
        points(1, 1, 1) | {"rewards": points(9, 9, 9)["greedy"]},
    )
    blind = findings(rewarded, played, 0.9, ACTIONS, None)
    assert blind.rewards_ranked == 0.5 and blind.gains["rewards"] == (8, 0)
    assert "gain 8, standard error 0, but the world model does not foresee them (it ranks 0.50" in blind.words
    seeing = findings(replace(rewarded, expected_SA=rewards_SA * 0.1), played, 0.9, ACTIONS, None)
    assert (
        seeing.rewards_ranked == 1
        and "foresees them (it ranks 1.00 of pairs rightly): play by rollouts" in seeing.words
    )
    assert "rewards alone" not in findings(rewarded, points(1, 1, 1), 0.9, ACTIONS, None).words


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-1, 1)), max_size=12))
def test_ranked_pairs_are_counted_as_one_by_one(entries: list[tuple[int, int]]) -> None:
    scores, values = (np.array([entry[place] for entry in entries], float) for place in (0, 1))
    told = [
        (np.sign(scores[high] - scores[low]) + 1) / 2
        for high in range(len(entries))
        for low in range(len(entries))
        if values[high] > values[low]
    ]
    assert ranked(scores, values) == (pytest.approx(np.mean(told)) if told else None)
