"""A moved mean is found, chance is not, and what changed between two evaluations is named."""

import numpy as np
import pytest

from pipelines.leaderboard.drift import drift
from pipelines.leaderboard.statistics import LEAST
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.store.store import Store
from tests.pipelines.evaluation.evaluations import dated, scores

THEN, NOW, LATER = "2026-01-04T22:00:00Z", "2026-01-11T22:00:00Z", "2026-01-18T22:00:00Z"
STEADY = {"greedy": [20.0, 21.0, 22.0, 23.0] * 4, "random": [0.0, 1.0] * 4}


def test_the_first_evaluation_has_no_past(store: Store) -> None:
    only = dated(scores(store, 0, STEADY), NOW)
    found = drift(only, [only, scores(store, 1, STEADY, protocol="machado"), dated(scores(store, 2, STEADY), LATER)])
    assert found.past is None and not found.found
    assert "nothing to compare" in str(found)


def test_equal_means_overlap_and_the_numbers_are_told(store: Store) -> None:
    old, new = dated(scores(store, 0, STEADY), THEN), dated(scores(store, 1, STEADY), NOW)
    found = drift(new, [new, old])
    assert [each.verdict for each in found.compared] == ["overlap", "overlap"]
    assert found.past is not None and found.past.members == (old,)
    assert not found.found and not found.changes and not found.remarks
    assert str(found).startswith("greedy 21.5 [20.9, 22.1] over 16, before 21.5 [20.9, 22.1] over 16: overlap; random ")
    assert str(found).count("overlap") == 2


def test_a_mean_beyond_its_interval_is_found_against_all_earlier_rounds(store: Store) -> None:
    past = [dated(scores(store, seed, STEADY), THEN) for seed in (0, 1)]
    worse = dated(scores(store, 2, STEADY | {"greedy": [19.0, 20.0, 18.0, 19.0] * 4}), NOW)
    found = drift(worse, past)
    assert found.found
    assert [(each.planner, each.verdict, each.past_episodes) for each in found.compared] == [
        ("greedy", "APART", 32),
        ("random", "overlap", 16),
    ]


def test_a_single_episode_has_no_interval(store: Store) -> None:
    old, new = dated(scores(store, 0, {"greedy": [1.0]}), THEN), dated(scores(store, 1, {"greedy": [9.0] * 2}), NOW)
    assert str(drift(new, [old])).startswith("greedy 9.0 [9.0, 9.0] over 2, before 1.0 over 1: no verdict")


def test_few_episodes_bring_no_verdict(store: Store) -> None:
    few = {"greedy": [1.0] * (LEAST - 1)}
    old, new = dated(scores(store, 0, few), THEN), dated(scores(store, 1, {"greedy": [9.0] * 20}), NOW)
    found = drift(new, [old])
    assert [each.verdict for each in found.compared] == ["no verdict below 8 episodes"]
    assert not found.found


def test_episodes_that_the_past_played_already_prove_nothing(store: Store) -> None:
    old = dated(scores(store, 0, STEADY), THEN)
    again = dated(scores(store, 0, STEADY, episodes=17), NOW)
    found = drift(again, [old])
    assert not found.compared and not found.found
    assert "no episode that the past had not played already" in str(found)
    more = dated(scores(store, 0, STEADY | {"greedy": [*STEADY["greedy"], 40.0]}, episodes=18), NOW)
    assert [(each.planner, each.episodes) for each in drift(more, [old]).compared] == [("greedy", 1)]


def test_changed_circumstances_are_flagged_and_libraries_told(store: Store) -> None:
    old = dated(scores(store, 0, STEADY, emulator="ale-py 0.11.0", code="1"), THEN, libraries={"torch": "2.12.0"})
    new = dated(scores(store, 1, STEADY), NOW, libraries={"torch": "2.13.0"}, git_commit="a" * 40 + "+")
    found = drift(new, [old])
    assert found.found, "the means agree, and yet it is no longer the same measurement"
    assert found.changes == (
        "emulator was ale-py 0.11.0, is ale-py 0.12.1",
        f"code version was 1, is {EvaluateConfig.CODE}",
    )
    assert "torch was 2.12.0, is 2.13.0" in found.remarks
    assert any(remark.startswith("commit ") and remark.endswith("is aaaaaaaaaa+") for remark in found.remarks)
    after = dated(scores(store, 2, STEADY), LATER, libraries={"torch": "2.13.0"}, git_commit="a" * 40 + "+")
    later = drift(after, [old, new])
    assert later.past is not None and later.past.members == (new,), "the pool begins anew with the change"
    assert not later.found and not later.remarks


@pytest.mark.parametrize("sizes", [(8, 8), (16, 16), (16, 64)])
def test_equal_agents_are_seldom_flagged(sizes: tuple[int, int]) -> None:
    from pipelines.leaderboard.drift import Compared
    from pipelines.leaderboard.statistics import mean_interval

    draws, flagged = np.random.default_rng(0), 0
    for _ in range(200):
        ours, theirs = (mean_interval(draws.normal(size=size).tolist(), resamples=300) for size in sizes)
        flagged += Compared("greedy", ours, theirs, *sizes).verdict == "APART"
    assert flagged <= 0.06 * 200
