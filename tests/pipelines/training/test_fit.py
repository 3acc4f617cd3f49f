"""What every training stage records: figures per game, the check, a sheet per game."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.api import Limits
from pipelines.store.artefact import Draft
from pipelines.store.store import Store
from pipelines.training.device import Device
from pipelines.training.fit import _shared, examine, plays_until
from pipelines.training.inputs import sources
from pipelines.training.schedule import Phase, Practice, Rounds, Use, total_steps
from tests.fakes import spec
from tests.pipelines.training.toy_game import GAME, ToyAgent, ToyWorld, make_game


def test_the_ranks_and_their_rows_are_told() -> None:
    phases = (Phase("both", 8, (Use("tokenizer", 7), Use("world", 5))), Phase("world", 4, (Use("world", 6),)))
    assert _shared((1,), phases) == {"ranks": 1}
    assert _shared((1, 2), phases) == {
        "ranks": 2,
        "earlier_ranks": [1],
        "rank_rows": {"both/tokenizer": [3, 4], "both/world": [2, 3], "world/world": [3, 3]},
    }


@pytest.mark.parametrize(("rise", "passed"), [(0, True), (4, False)])
def test_sight_check_and_sheet_are_recorded(store: Store, tmp_path: Path, rise: int, passed: bool) -> None:
    data, cut = make_game(store, 10, 10, 10)
    draft = Draft(spec("pretrained", "toy"), tmp_path / "draft", tmp_path / "scratch", {})
    draft.folder.mkdir()
    found = sources([data], [cut], 1, [], tmp_path)
    examine(draft, ToyAgent(rise), found, {GAME: 1}, 100, Device("cpu", False))
    assert draft.metrics["sight"][GAME]["mean_frame_error"] == 4.3333
    (check,) = draft.checks
    assert (check.name, check.passed, check.blocking) == ("sees", passed, False)
    assert check.detail.startswith(f"{GAME}: reconstruction 3.0 against mean frame 4.3")
    assert draft.path(f"sheet_{GAME}.png").read_bytes().startswith(b"\x89PNG")


def test_an_agent_that_sees_two_steps_is_shown_no_more(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyAgent, "limits", Limits(games=60, steps=2))
    contexts: list[int] = []
    reset = ToyWorld.reset
    monkeypatch.setattr(
        ToyWorld, "reset", lambda world, seen: (contexts.append(seen.tokens_NCK.shape[1]), reset(world, seen))[1]
    )
    data, cut = make_game(store, 10, 10, 10)
    draft = Draft(spec("pretrained", "toy"), tmp_path / "draft", tmp_path / "scratch", {})
    draft.folder.mkdir()
    examine(draft, ToyAgent(0), sources([data], [cut], 1, [], tmp_path), {GAME: 1}, 100, Device("cpu", False))
    assert set(contexts) == {1}  # and the step that is imagined is the second
    assert draft.path(f"sheet_{GAME}.png").is_file()


@pytest.mark.parametrize(
    ("lengths", "unseen", "words"),
    [((10, 10), 1, "1 held-out episode"), ((10,), 0, "frames that were learned from (no episode is held out)")],
)
def test_sight_is_called_what_it_was_measured_on(
    store: Store, tmp_path: Path, lengths: tuple[int, ...], unseen: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr("pipelines.plots.training.draw_sheet", lambda rows, path, title: titles.append(title))
    data, cut = make_game(store, *lengths)
    draft = Draft(spec("pretrained", "toy"), tmp_path / "draft", tmp_path / "scratch", {})
    draft.folder.mkdir()
    examine(draft, ToyAgent(), sources([data], [cut], 1, [], tmp_path), {GAME: unseen}, 100, Device("cpu", False))
    assert draft.metrics["sight"][GAME]["held_out_episodes"] == unseen
    assert draft.checks[0].detail.endswith(f"measured on {words}")
    assert titles == [f"{GAME}, {'held-out play' if unseen else 'play that was learned from'}"]


def test_play_ends_with_the_practice_of_its_last_round() -> None:
    uses = (Practice("a", 8, updates=3), Practice("b", 8, updates=2, start=2, first=9))
    rounds = Rounds("r", 5, uses, collect=10)
    assert plays_until((rounds,)) is None and total_steps((rounds,)) == 5 * 3 + 3 * 2
    assert plays_until((replace(rounds, until=3),)) == 3 * 3 + 2
    assert plays_until((replace(rounds, collect=0),)) == 0
    phase = Phase("p", 7, (Use("world", 8),))
    assert plays_until((phase, replace(rounds, until=1))) == 7 + 3 and plays_until((phase,)) == 0
    assert plays_until((replace(rounds, until=1), rounds)) is None
