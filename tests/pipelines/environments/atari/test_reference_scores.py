"""Normalised scores and aggregates against published numbers and hand-worked ones."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.environments.atari.games import GAMES
from pipelines.environments.atari.reference_scores import (
    Reference,
    claims,
    iqm,
    normalised,
    origin,
    publications,
    published,
    reference,
)
from pipelines.errors import UsageError, WorldlineError

# IQM HNS, IQM DNS, games above human. The first four are in the authors' release as such; the others follow from its
# mean returns by its own formula, a 25% trimmed mean, worked out apart from this code.
PUBLISHED = {
    "JOWA_150M_with_planning": (0.847, 1.195, 6),
    "JOWA_70M_with_planning": (0.802, 0.952, 6),
    "JOWA_40M_with_planning": (0.664, 0.772, 5),
    "JOWA_150M_without_planning": (0.524, 0.613, 4),
    "JOWA_70M_without_planning": (0.461, 0.637, 4),
    "JOWA_40M_without_planning": (0.271, 0.433, 3),
    "MTBC_120M": (0.326, 0.278, 4),
    "MTBC_65M": (0.323, 0.423, 4),
    "MTBC_34M": (0.336, 0.387, 4),
    "Scaled_QL_80M": (0.390, 0.660, 3),
    "MGDT_200M": (0.490, 1.058, 3),
    "MGDT_40M": (0.329, 0.422, 1),
    "EDT_200M": (0.501, 0.836, 3),
}


def trimmed_mean(values: list[Fraction]) -> float:
    """The middle nine of fifteen, exactly."""
    return float(sum(sorted(values)[3:-3]) / 9)


@pytest.mark.parametrize("method", PUBLISHED)
def test_all_published_rows(method: str) -> None:
    scores, exact = published(method), {}
    for against in ("human", "dqn"):
        references = {
            game: (Fraction(str(reference(game).random)), Fraction(str(getattr(reference(game), against))))
            for game in scores
        }  # type: ignore[union-attr]
        exact[against] = trimmed_mean(
            [
                (Fraction(str(scores[game])) - min(zero, top)) / abs(top - zero)
                for game, (zero, top) in references.items()
            ]
        )
    human = [normalised(game, score) for game, score in scores.items()]
    dqn = [normalised(game, score, "dqn") for game, score in scores.items()]
    assert len(scores) == 15
    assert (iqm(human), iqm(dqn)) == (pytest.approx(exact["human"]), pytest.approx(exact["dqn"]))
    assert (round(iqm(human), 3), round(iqm(dqn), 3), sum(value > 1 for value in human)) == PUBLISHED[method]


def test_publications_are_the_published_rows_with_their_episodes() -> None:
    found = {row.method: row for row in publications()}
    assert list(found) == list(PUBLISHED)
    for method, row in found.items():
        assert row.means == published(method) and (row.protocol, row.episodes) == ("jowa", 16) and row.source
        for game, returns in row.returns.items():  # published means are rounded to one decimal
            assert len(returns) == 16 and sum(returns) / 16 == pytest.approx(row.means[game], abs=0.051)
    assert [method for method, row in found.items() if len(row.returns) == 15] == list(PUBLISHED)[:3]


def test_assault_by_hand() -> None:
    assert reference("Assault") == Reference(222.4, 742.0, 1525.2)
    assert normalised("Assault", 222.4) == 0
    assert normalised("Assault", 742.0) == 1
    assert normalised("Assault", 1525.2, "dqn") == pytest.approx(1)
    assert normalised("Assault", 482.2) == pytest.approx(0.5)


def test_every_game_that_a_human_is_known_to_have_played_has_that_score() -> None:
    known = {game: found for game in GAMES if (found := reference(game))}
    assert set(GAMES) - known.keys() == {"AirRaid", "ElevatorAction", "JourneyEscape"}
    assert [game for game, found in known.items() if found.human is None] == ["Pooyan"]
    older = {game: (found.random, found.human) for game, found in known.items() if found.dqn is None}
    assert older == {
        "Asteroids": (719.1, 47388.7),
        "Bowling": (23.1, 160.7),
        "MontezumaRevenge": (0.0, 4753.3),
        "Pitfall": (-229.4, 6463.7),
        "PrivateEye": (24.9, 69571.3),
        "RoadRunner": (11.5, 7845.0),
        "Skiing": (-17098.1, -4336.9),
        "Solaris": (1236.3, 12326.7),
        "Tennis": (-23.8, -8.3),
        "Tutankham": (11.4, 167.6),
        "Venture": (0.0, 1187.5),
    }
    for game, (chance, human) in older.items():
        assert (normalised(game, chance), normalised(game, human)) == (0, 1)
    assert not older.keys() & {game for row in publications() for game in row.means}  # what others published stays


def test_every_reference_score_has_a_source_and_a_protocol_and_only_those() -> None:
    for game in GAMES:
        known = reference(game)
        for score in ("random", "human", "dqn"):
            assert all(origin(game, score)) == (known is not None and getattr(known, score) is not None)
    assert "1511.06581" in origin("Venture", "human")[0] and "no-ops" in origin("Alien", "random")[1]
    assert origin("Carnival", "human") == ("results/base_scores.py of CJReinforce/JOWA", "not stated")  # not of the 57
    assert origin("Pooyan", "human") == origin("AirRaid", "random") == ("", "")


def test_claims_hold_the_raw_scores_that_were_released() -> None:
    found = claims()
    assert found == claims("DQN-Replay, 15 games") + claims("Atari 100k")
    for claim in found:
        games = {"Atari 100k": 26, "DQN-Replay, 15 games": 15}[claim.benchmark]
        assert claim.source and claim.protocol and bool(claim.scores) == bool(claim.scores_from)
        assert not claim.scores or (len(claim.scores) == games and set(claim.scores) <= set(GAMES))
        runs = {"seed": 5, "episode": 1, "game": 1}[claim.unit]
        episodes = 16 if claim.unit == "episode" else 1
        assert all(len(each) == runs for each in claim.scores.values())
        assert all(len(values) == episodes for each in claim.scores.values() for values in each.values())
    (storm,) = (claim for claim in found if claim.agent == "STORM")
    assert list(storm.scores["Pong"].values()) == [(20.8,), (20.5,), (-7.4,), (20.4,), (2.1,)]
    with pytest.raises(UsageError, match="Unknown benchmark 'Atari 200M'"):
        claims("Atari 200M")


def test_missing_references_are_named() -> None:
    with pytest.raises(WorldlineError, match="Pooyan has no published human score"):
        normalised("Pooyan", 1.0)
    for game in ("AirRaid", "Venture"):
        with pytest.raises(WorldlineError, match=f"{game} has no published dqn score"):
            normalised(game, 1.0, "dqn")
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
