"""Rules that remember: what they draw follows their formulas, and from the seed, the step and what was drawn alone."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.practice.replay import prioritised
from models.rem.config import RemConfig
from models.rem.family import REM
from pipelines.batches.memory import MEMORIES, Counts, Draws, Episodes, Losses, carried, require_rules
from pipelines.errors import UsageError

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def stream(step: int) -> np.random.Generator:
    return np.random.default_rng([7, step])


def episodes(*lengths: int, first_turn: bool = False) -> Episodes:
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Episodes(starts, np.arange(starts[-1]), first_turn)


def lost(step: int, count: int) -> NDArray[np.float32]:
    return np.random.default_rng([1, step]).random(count).astype(np.float32) * 3


def chi_square(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(((found - expected) ** 2 / expected).sum())


@given(lengths=LENGTHS, count=st.integers(1, 12), steps=st.integers(1, 8), rule=st.sampled_from(sorted(MEMORIES)))
def test_a_step_of_an_episode_is_drawn_and_a_copy_that_goes_on_draws_alike(
    lengths: list[int], count: int, steps: int, rule: str
) -> None:
    """Saved before any step, and restored by another with the same episodes, it goes on as if nothing had been."""
    memory = MEMORIES[rule](Draws())
    memory.begin(0, episodes(*lengths))
    for step in range(steps):
        drawn, places = memory.draw(step, count, stream)
        assert drawn.shape == places.shape == (count,)
        assert (drawn >= 0).all() and (drawn < len(lengths)).all()
        assert (places >= 0).all() and (places < np.array(lengths)[drawn]).all()
        again = MEMORIES[rule](Draws())
        again.restore({name: array.copy() for name, array in memory.state().items()})
        again.begin(step, episodes(*lengths))
        assert all(np.array_equal(*pair) for pair in zip((drawn, places), again.draw(step, count, stream), strict=True))
        memory.follow(count, stream, lost(step, count))


@given(lengths=LENGTHS, count=st.integers(1, 12), step=st.integers(0, 12), power=st.floats(0, 8))
def test_counts_that_a_worker_skips_to_are_those_that_were_followed(
    lengths: list[int], count: int, step: int, power: float
) -> None:
    followed, skipped = Counts(Draws(power=power)), Counts(Draws(power=power))
    tally = np.zeros(len(lengths), np.int64)
    for memory in (followed, skipped):
        memory.begin(0, episodes(*lengths))
    for each in range(step):
        np.add.at(tally, followed.draw(each, count, stream)[0], 1)
        followed.follow(count, stream)
    assert np.array_equal(followed.state()["counts"], tally) and tally.sum() == step * count
    assert np.array_equal(skipped.draw(step, count, stream)[0], followed.draw(step, count, stream)[0])


@given(lengths=LENGTHS, grown=st.lists(st.integers(1, 9), max_size=4), count=st.integers(1, 9), more=st.integers(0, 5))
def test_counts_stay_an_episodes_own_while_it_and_others_grow(
    lengths: list[int], grown: list[int], count: int, more: int
) -> None:
    """Of two environments, episodes of the first push those of the second back; the last of each goes on."""
    memory, second = Counts(Draws()), 1 << 40
    here, there = sum(lengths), sum(lengths[:2])
    memory.begin(0, two_environments(lengths, lengths[:2], second))
    memory.follow(count, stream)
    before = memory.state()["counts"]
    grew = [*lengths[:-1], lengths[-1] + more, *grown]
    memory.begin(1, two_environments(grew, lengths[:2], second))
    after = memory.state()["counts"]
    assert np.array_equal(after[: len(lengths)], before[: len(lengths)]) and here >= there
    assert not after[len(lengths) : len(grew)].any(), "what is new was never drawn"
    assert np.array_equal(after[len(grew) :], before[len(lengths) :])


def two_environments(first: list[int], second: list[int], offset: int) -> Episodes:
    starts = np.concatenate([[0], np.cumsum([*first, *second])]).astype(np.int64)
    return Episodes(starts, np.concatenate([np.arange(sum(first)), np.arange(sum(second)) + offset]))


@pytest.mark.parametrize("power", [0.0, 1.0, 5.0])
def test_episodes_are_drawn_by_one_plus_their_counts_to_a_power(power: float) -> None:
    """Chi-square with 2 degrees of freedom: above 13.8 by chance once in a thousand. Steps are as likely as another."""
    memory = Counts(Draws(power=power))
    memory.restore({"numbers": np.array([0, 3]), "counts": np.array([3, 1])})
    memory.begin(0, episodes(3, 5, 4))
    drawn, places = memory.draw(0, 60_000, stream)
    weights = np.array([4.0, 2.0, 1.0]) ** -power
    assert chi_square(np.bincount(drawn, minlength=3), 60_000 * weights / weights.sum()) < 13.8
    inside = Counter(places[drawn == 1].tolist())
    assert chi_square(np.array([inside[step] for step in range(5)]), np.full(5, inside.total() / 5)) < 18.5


def test_draws_of_the_first_turn_are_not_counted() -> None:
    memory = Counts(Draws())
    memory.begin(0, episodes(4, 4, first_turn=True))
    memory.follow(8, stream)
    assert not memory.state()["counts"].any()
    memory.begin(1, episodes(4, 4, 2))
    memory.follow(8, stream)
    assert memory.state()["counts"].sum() == 8


def test_counts_without_bound_leave_a_new_episode_likely() -> None:
    memory = Counts(Draws(power=60.0))
    memory.restore({"numbers": np.array([0, 4]), "counts": np.array([10**9, 10**8])})
    memory.begin(0, episodes(4, 4))
    assert set(memory.draw(0, 64, stream)[0]) == {1}, "no weight is lost below the smallest number"
    memory.begin(0, episodes(4, 4, 1))
    assert set(memory.draw(0, 64, stream)[0]) == {2}


def told(share: float, fresh: float) -> Losses:
    """Five steps have lost something; the sixth is new."""
    memory = Losses(Draws(share=share, fresh=fresh))
    memory.restore({"numbers": np.arange(5), "losses": np.array([0, 0.5, 1, 1.5, 2], np.float32)})
    return memory


@pytest.mark.parametrize("fresh", [0.5, pytest.param(1.75, marks=pytest.mark.slow)])
def test_steps_are_drawn_by_the_softmax_of_their_losses_and_the_others_uniformly(fresh: float) -> None:
    """One of each kind a batch; chi-square with 5 degrees of freedom is above 20.5 by chance once in a thousand."""
    memory, count = told(0.5, fresh), 20_000
    by_loss, others = np.zeros(6), np.zeros(6)
    for step in range(count):
        memory.begin(step, episodes(2, 4))
        first, second = memory.pick(2, stream(step))
        assert first != second
        by_loss[first] += 1
        others[second] += 1
    likely = np.exp([0, 0.5, 1, 1.5, 2, fresh])
    likely /= likely.sum()
    assert chi_square(by_loss, count * likely) < 20.5
    assert chi_square(others, count * (1 - likely) / 5) < 20.5


def test_a_new_step_is_drawn_first() -> None:
    memory = told(0.25, 10.0)
    memory.begin(0, episodes(2, 4))
    assert [memory.draw(0, 4, stream)[part][0] for part in (0, 1)] == [1, 3]


@given(lengths=LENGTHS, count=st.integers(1, 30), share=st.floats(0, 1), step=st.integers(0, 99))
def test_no_step_is_drawn_twice_where_there_are_enough(lengths: list[int], count: int, share: float, step: int) -> None:
    memory = Losses(Draws(share=share))
    memory.begin(step, episodes(*lengths))
    drawn, places = memory.draw(step, count, stream)
    pairs = set(zip(drawn.tolist(), places.tolist(), strict=True))
    assert len(pairs) == count or count > sum(lengths)


def test_what_a_segment_lost_is_what_it_is_drawn_by_next() -> None:
    memory = Losses(Draws())
    memory.begin(4, episodes(3, 3))
    assert memory.state()["losses"].tolist() == [10.0] * 6
    drawn, places = memory.draw(4, 2, stream)
    memory.follow(2, stream, np.array([0.5, 1.5], np.float32))
    rows = np.array([0, 3])[drawn] + places
    assert memory.state()["losses"][rows].tolist() == [0.5, 1.5]
    assert sorted(memory.state()["losses"])[2:] == [10.0] * 4


def test_a_step_is_asked_for_in_order() -> None:
    counts, losses = Counts(Draws()), Losses(Draws())
    for memory in (counts, losses):
        memory.begin(3, episodes(4))
    with pytest.raises(ValueError, match="Step 2 was drawn already"):
        counts.draw(2, 2, stream)
    with pytest.raises(ValueError, match="Step 4 depends on losses of the steps before it"):
        losses.draw(4, 2, stream)
    with pytest.raises(ValueError, match="say what each of them lost"):
        losses.follow(2, stream, None)


@pytest.mark.parametrize("wrong", [{"power": -1.0}, {"share": 1.5}, {"fresh": 0.0}, {"fresh": float("nan")}])
def test_numbers_of_the_rules_have_limits(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"learn.draws.{next(iter(wrong))} "):
        Draws(**wrong)


def test_values_are_carried_by_their_numbers() -> None:
    found = carried(np.array([1, 4, 9]), np.array([10, 40, 90]), np.array([0, 4, 9, 12]), 7)
    assert found.tolist() == [7, 40, 90, 7]
    assert carried(np.zeros(0, np.int64), np.zeros(0, np.float32), np.array([3]), 2.5).tolist() == [2.5]


@pytest.mark.parametrize(
    ("rules", "draws", "words"),
    [
        ({"world_model": "steps"}, Draws(up=True), "learn.draws.up is read where segments are drawn by losses"),
        ({"tokenizer": "losses"}, Draws(), "does not tell segment by segment .*set learn.uses.tokenizer.sampling"),
        ({"world_model": "steps"}, Draws(power=2.0), "learn.draws.power is read where segments are drawn by counts"),
        ({"tokenizer": "counts"}, Draws(fresh=2.0), "learn.draws.fresh is read where segments are drawn by losses"),
    ],
)
def test_rules_and_numbers_that_would_have_no_effect_or_a_wrong_one_are_refused(
    rules: dict[str, str], draws: Draws, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        require_rules(rules, draws, RemConfig(), REM)
    require_rules({"tokenizer": "counts", "world_model": "losses"}, Draws(power=2.0), RemConfig(), REM)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    least=st.integers(1, 4),
    rule=st.sampled_from(sorted(MEMORIES)),
    left=st.booleans(),
)
def test_no_segment_is_drawn_with_fewer_real_steps_than_are_needed(
    lengths: list[int], least: int, rule: str, left: bool
) -> None:
    lengths = [*lengths, least]  # one has enough
    there = replace(episodes(*lengths), least=least, left=left)
    memory, seen = MEMORIES[rule](Draws(fresh=1.0)), set()
    memory.begin(0, there)
    for step in range(12):
        drawn, places = memory.draw(step, 40, stream)
        real = places + 1 if left else np.array(lengths)[drawn] - places
        assert (real >= least).all() and (places >= 0).all() and (places < np.array(lengths)[drawn]).all()
        seen |= {(int(one), int(place)) for one, place in zip(drawn, places, strict=True)}
        memory.follow(40, stream, lost(step, 40))
    rows = there.able_rows()
    assert len(rows) == int(there.able.sum()) and (rows < sum(lengths)).all()
    if rule == "losses":
        assert {there.starts[one] + place for one, place in seen} == set(rows.tolist())


def test_the_share_of_losses_can_be_rounded_up() -> None:
    """Of 8 segments 0.3 are 2.4: with one loss far above the others, two or three are drawn by it alone."""
    for up, expected in ((False, 2), (True, 3)):
        memory = Losses(Draws(up=up))
        memory.begin(0, episodes(40))
        memory.restore({"numbers": np.arange(40), "losses": np.array([50.0] * 3 + [0.0] * 37, np.float32)})
        memory.begin(0, episodes(40))
        places = memory.pick(8, stream(0))
        assert (places[:expected] < 3).all() and len(set(places.tolist())) == 8
        _, mixed = memory.draw(0, 8, stream)
        assert sorted(mixed) == sorted(places) and mixed.tolist() != places.tolist()
    assert [prioritised(0.3, count, up=True) for count in (8, 10, 16, 20, 32)] == [3, 4, 5, 7, 10]
    assert [prioritised(0.3, count) for count in (8, 10, 16, 20, 32)] == [2, 3, 5, 6, 10]
