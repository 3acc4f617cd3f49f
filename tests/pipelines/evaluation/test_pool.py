"""Which evaluations are pooled, which stand apart and why, and that no episode counts twice."""

import pytest

from pipelines.errors import WorldlineError
from pipelines.evaluation.pool import pool_of, pools, question
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
    assert (pool.game, pool.planners, pool.apart) == ("Freeway", ["greedy"], ())
    assert pool.returns("greedy") == (1.0, 2.0) * 3
    assert pool.returns("random") == (0.0,) * 3
    assert pool.returns("beam") == ()
    assert list(pool.episodes["evaluation"].unique()) == [str(week.ref) for week in weeks]


def test_seeds_and_numbers_of_episodes_are_no_other_question(store: Store) -> None:
    one = scores(store, 0, LOW)
    assert question(scores(store, 0, LOW, episodes=5, random_episodes=3, beam_episodes=2)) == question(one)
    for other in (
        scores(store, 0, LOW, game="Boxing"),
        scores(store, 0, LOW, protocol="machado"),
        scores(store, 0, LOW, context=1),
        scores(store, 0, LOW, planner="mcts"),
        scores(store, 0, LOW, checkpoint=checkpoint(store, steps=7).ref),
    ):
        assert question(other) != question(one)
        assert len(pools([one, other])) == 2


def test_an_emulator_seed_that_two_evaluations_played_counts_once(store: Store) -> None:
    few = dated(scores(store, 0, {"greedy": [1.0, 2.0]}), WEEKS[0])
    more = dated(scores(store, 0, {"greedy": [1.0, 2.0, 3.0], "beam": [7.0]}, episodes=20), WEEKS[1])
    [pool] = pools([more, few])
    assert pool.returns("greedy") == (1.0, 2.0, 3.0)
    assert pool.returns("beam") == (7.0,), "another planner on the same seed is another episode"
    assert pool.planners == ["greedy", "beam"]


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
    assert [member.ref for member in pool_of(old, [old, new]).members] == [old.ref], "seen from the old one"


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
