"""Seeds: what settings were chosen on is never reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.environments.registry import emulator_seeds
from pipelines.evaluation import session as seeds
from pipelines.evaluation.session import reported_seeds, selection_seeds

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(0, 40), st.data())
def test_reported_seeds_are_the_emulators_without_the_spent(seed: int, count: int, data: st.DataObject) -> None:
    known = emulator_seeds(seed, count + 9)
    spent = data.draw(st.lists(st.sampled_from(known), max_size=9))
    found = reported_seeds(seed, count, spent)
    assert found == tuple(word for word in known if word not in spent)[:count]
    assert len(found) == count
    assert reported_seeds(seed, count) == known[:count]


@given(SEEDS, SEEDS, st.integers(1, 20))
def test_what_was_selected_on_is_not_reported_whatever_the_seeds(ours: int, theirs: int, count: int) -> None:
    spent = selection_seeds(ours, count)
    assert not set(spent) & set(reported_seeds(theirs, 30, spent))
    assert all(0 <= word < 2**31 for word in spent)
    assert selection_seeds(ours, count + 3)[:count] == spent


def test_an_equal_seed_gives_the_search_other_episodes() -> None:
    assert not set(selection_seeds(7, 50)) & set(emulator_seeds(7, 50))


def test_streams_that_meet_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "emulator_seeds", lambda seed, count: selection_seeds(seed, count))
    spent = selection_seeds(3, 4)
    assert reported_seeds(3, 2, spent) == selection_seeds(3, 6)[4:]
