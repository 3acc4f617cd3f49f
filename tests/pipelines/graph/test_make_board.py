"""The leaderboard holds every score that a pointer names and the store still has."""

import shutil

import pytest

from pipelines.errors import Members, UsageError
from pipelines.graph.make import board_config
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.fakes import flip_byte, make


def _score(store: Store, experiment: str, seed: int) -> Artefact:
    artefact = make(store, "scores", seed=seed)
    store.point(f"scores/{experiment}/Freeway", artefact.ref)
    return artefact


def test_all_scores_stand_on_it_in_the_order_of_their_experiments(store: Store) -> None:
    second, first = _score(store, "b-2", 1), _score(store, "a-1", 2)
    store.point("tokens/a-1/Freeway", make(store, "tokens").ref)
    config = board_config(store)
    assert config.names == ("a-1", "b-2")
    assert config.scores == (first.ref, second.ref)


def test_a_score_that_was_removed_does_not(store: Store) -> None:
    gone, kept = _score(store, "a-1", 1), _score(store, "b-2", 2)
    shutil.rmtree(gone.folder)
    assert board_config(store).scores == (kept.ref,)


def test_only_the_experiments_that_were_asked_for(store: Store) -> None:
    _score(store, "a-1", 1)
    wanted = _score(store, "b-2", 2)
    assert board_config(store, ["b-2"]).scores == (wanted.ref,)
    with pytest.raises(UsageError, match="'c-3' has no scores"):
        board_config(store, ["b-2", "c-3"])


def test_no_score_at_all_is_one_line(store: Store) -> None:
    with pytest.raises(UsageError, match="evaluate at least one experiment first"):
        board_config(store)


def test_damaged_and_stale_scores_are_left_out_with_the_reason(store: Store) -> None:
    parent = make(store, "tokens")
    stale = make(store, "scores", (parent.ref,))
    store.point("scores/a-1/Freeway", stale.ref)
    damaged, sound, torn = (_score(store, name, seed) for seed, name in enumerate(("b-2", "c-3", "d-4")))
    shutil.rmtree(parent.folder)
    make(store, "tokens", text="other bytes")
    flip_byte(damaged.path("data.bin"))
    (torn.folder / "manifest.json").write_text("{")
    members = Members()
    assert board_config(store, members=members).scores == (sound.ref,)
    words = [(stale, "is stale"), (damaged, "is damaged"), (torn, "is not a readable manifest")]
    for (artefact, why), (name, line) in zip(words, members.failed.items(), strict=True):
        assert store.resolve(name) == artefact.ref and why in str(line) and artefact.ref.key in str(line)
