"""Which evaluations are pooled, which stand apart and why, and that no episode counts twice."""

from dataclasses import replace

import pytest

from pipelines.errors import WorldlineError
from pipelines.evaluation.player_settings import SearchConfig
from pipelines.evaluation.pool import asks_alike, planners_of, pool_of, pools
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.store.store import Store
from tests.fakes import make
from tests.pipelines.evaluation.evaluations import checkpoint, dated, scores

WEEKS = ["2026-01-04T22:00:00Z", "2026-01-11T22:00:00Z", "2026-01-18T22:00:00Z"]
LOW = {"greedy": [1.0, 2.0], "random": [0.0]}


def test_rounds_of_one_checkpoint_make_one_pool_oldest_first(store: Store) -> None:
    weeks = [dated(scores(store, seed, LOW), when) for seed, when in zip((5, 9, 1), WEEKS, strict=True)]
    [pool] = pools([weeks[2], weeks[0], weeks[1]])
    assert [member.ref for member in pool.members] == [week.ref for week in weeks]
    assert (pool.game, pool.planner, pool.apart) == ("Freeway", "greedy", ())
    assert pool.returns("greedy") == (1.0, 2.0) * 3
    assert pool.returns("random") == (0.0,) * 3
    assert pool.returns("beam") == ()
    assert list(pool.episodes["evaluation"].unique()) == [str(week.ref) for week in weeks]


def test_seeds_and_numbers_of_episodes_are_no_other_question(store: Store) -> None:
    one = scores(store, 0, LOW)
    assert asks_alike(scores(store, 0, LOW, episodes=5, random_episodes=3, beam_episodes=2), one, "greedy")
    for other in (
        scores(store, 0, LOW, game="Boxing"),
        scores(store, 0, LOW, protocol="machado"),
        scores(store, 0, LOW, context=1),
        scores(store, 0, LOW, checkpoint=checkpoint(store, steps=7).ref),
    ):
        assert not asks_alike(other, one, "greedy")
        assert len(pools([one, other])) == 2


BOTH = {"greedy": [1.0, 2.0], "beam": [5.0], "random": [0.0]}


@pytest.mark.parametrize(
    ("returns", "one", "other", "alike"),
    [
        (LOW, {}, {"beam_width": 5, "beam_horizon": 3, "beam_steps": 9}, ["greedy"]),
        (LOW, {}, {"search": SearchConfig(leaf="mean", simulations=4)}, ["greedy"]),
        (BOTH, {"beam_episodes": 1}, {"beam_episodes": 1, "beam_width": 5}, ["greedy"]),
        (BOTH, {"beam_episodes": 1}, {"beam_episodes": 1, "beam_steps": 9}, ["greedy"]),
        (BOTH, {"beam_episodes": 1}, {"beam_episodes": 1, "max_steps": 9}, []),
        (BOTH, {"beam_episodes": 1, "max_steps": 9}, {"beam_episodes": 1, "beam_steps": 9}, ["beam"]),
        (BOTH, {"beam_episodes": 1}, {"beam_episodes": 1, "search": SearchConfig(simulations=4)}, ["greedy", "beam"]),
        (BOTH, {"beam_episodes": 1}, {"beam_episodes": 1, "search": SearchConfig(leaf="mean")}, ["greedy"]),
        ({"mcts": [3.0]}, {"planner": "mcts"}, {"planner": "mcts", "search": SearchConfig(simulations=4)}, []),
    ],
)
def test_what_a_planner_does_not_read_is_no_other_question_to_it(
    store: Store, returns: dict, one: dict, other: dict, alike: list[str]
) -> None:
    made = [scores(store, 0, returns, **config) for config in (one, other)]
    found = pools(made)
    assert [pool.planner for pool in found if len(pool.members) == 2] == alike
    assert all(len(pool.returns(pool.planner)) == len(returns[pool.planner]) for pool in found), "no episode twice"


def test_a_beam_beside_greedy_play_is_asked_what_it_is_alone(store: Store) -> None:
    beside = scores(store, 0, BOTH, beam_episodes=1)
    alone = scores(store, 0, {"beam": [5.0, 6.0], "random": [0.0]}, planner="beam")
    (found,) = (pool for pool in pools([beside, alone]) if pool.planner == "beam")
    assert found.returns("beam") == (5.0, 6.0)


def test_an_emulator_seed_that_two_evaluations_played_counts_once(store: Store) -> None:
    few = dated(scores(store, 0, {"greedy": [1.0, 2.0]}), WEEKS[0])
    more = dated(scores(store, 0, {"greedy": [1.0, 2.0, 3.0], "beam": [7.0]}, episodes=20), WEEKS[1])
    pool, other = pools([more, few])
    assert (pool.planner, other.planner) == ("greedy", "beam")
    assert pool.returns("greedy") == (1.0, 2.0, 3.0)
    assert other.returns("beam") == (7.0,), "another planner on the same seed is another episode"
    assert other.members == (more,)


def test_what_else_was_measured_is_no_planner(store: Store) -> None:
    measured = scores(store, 0, BOTH)
    told = measured.manifest.metrics | {"threads": {"greedy": [2]}, "bf16_errors": {"world": 0.1}, "device": "cpu"}
    again = replace(measured, manifest=replace(measured.manifest, metrics=told))
    assert planners_of(again) == ["greedy", "beam"] and len(pools([again])) == 2


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"emulator": "ale-py 0.11.0"}, "emulator was ale-py 0.11.0, is ale-py 0.12.1"),
        ({"code": "1"}, f"code version was 1, is {EvaluateConfig.CODE}"),
        ({"settings": {"context": 3}}, "settings of greedy was context 3, is context 2"),
    ],
    ids=["emulator", "code", "settings"],
)
def test_what_was_made_in_other_circumstances_stands_apart(store: Store, other: dict, why: str) -> None:
    old, new = dated(scores(store, 0, LOW, **other), WEEKS[0]), dated(scores(store, 1, LOW), WEEKS[1])
    [pool] = pools([old, new])
    assert [member.ref for member in pool.members] == [new.ref]
    assert [(each.artefact.ref, each.why) for each in pool.apart] == [(old.ref, (why,))]
    assert [member.ref for member in pool_of(old, [old, new], "greedy").members] == [old.ref], "seen from the old one"


def test_a_checkpoint_made_anew_at_the_same_address_stands_apart(store: Store) -> None:
    old, new = scores(store, 0, LOW), scores(store, 1, LOW)
    [parent] = new.manifest.parents
    other = dated(new, WEEKS[0], parents=(type(parent)(parent.ref, "0" * 64),))
    [pool] = pools([old, other])
    assert pool.members == (old,)
    assert pool.apart[0].why[0].startswith(f"manifest of {parent.ref} was 0000000000000000, is ")


def test_other_artefacts_are_passed_over_and_damage_is_one_line(store: Store) -> None:
    assert pools([make(store, "tokens")]) == []
    damaged = scores(store, 0, {"greedy": [float("nan")]})
    [pool] = pools([damaged])
    with pytest.raises(WorldlineError, match=f"{damaged.ref}: an episode of greedy has no finite return"):
        pool.returns("greedy")
    damaged.path("episodes.parquet").write_bytes(b"nothing")
    with pytest.raises(WorldlineError, match="is no readable Parquet table"):
        pools([damaged])[0].returns("greedy")
