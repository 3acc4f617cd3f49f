"""Normalised scores and aggregates against published numbers and hand-worked ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.atari.games import GAMES
from pipelines.atari.scores import Reference, aggregate, iqm, normalised, published, reference
from pipelines.errors import UsageError, WorldlineError


def test_jowas_published_aggregates_come_out() -> None:
    scores = published("JOWA_150M_with_planning")
    assert len(scores) == 15
    against_human, against_dqn = aggregate(scores), aggregate(scores, "dqn")
    assert round(against_human.iqm, 3) == 0.847
    assert round(against_dqn.iqm, 3) == 1.195
    assert (against_human.above, against_human.games) == (6, 15)


def test_assault_by_hand() -> None:
    assert reference("Assault") == Reference(222.4, 742.0, 1525.2)
    assert normalised("Assault", 222.4) == 0
    assert normalised("Assault", 742.0) == 1
    assert normalised("Assault", 1525.2, "dqn") == pytest.approx(1)
    assert normalised("Assault", 482.2) == pytest.approx(0.5)


def test_every_reference_is_of_one_of_the_sixty() -> None:
    assert sum(reference(game) is not None for game in GAMES) == 46
    assert reference("AirRaid") is None


def test_missing_references_are_named() -> None:
    with pytest.raises(WorldlineError, match="Pooyan has no published human score"):
        normalised("Pooyan", 1.0)
    with pytest.raises(WorldlineError, match="AirRaid has no published dqn score"):
        normalised("AirRaid", 1.0, "dqn")
    with pytest.raises(UsageError, match="Unknown game 'Pang'"):
        reference("Pang")
    with pytest.raises(UsageError, match="Unknown method 'JOWA_150M'"):
        published("JOWA_150M")


def test_iqm_by_hand() -> None:
    assert iqm([5.0]) == 5
    assert iqm([0.0, 10.0]) == 5
    assert iqm([100.0, 1.0, 2.0, -50.0]) == 1.5
    assert iqm([9, 1, 2, 3, 4, 5, 6, 100]) == 4.5
    with pytest.raises(ValueError, match="no scores"):
        iqm([])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_iqm_knows_no_order_and_stays_within_the_values(values: list[float]) -> None:
    assert iqm(values) == iqm(values[::-1]) == iqm(sorted(values))
    assert min(values) - 1e-6 <= iqm(values) <= max(values) + 1e-6
