"""Action numbers against the emulator, by name."""

import numpy as np
import pytest
from ale_py import Action, ALEInterface, LoggerMode
from hypothesis import given
from hypothesis import strategies as st

from pipelines.environments.atari.games import (
    ACTIONS,
    GAMES,
    IDS,
    legal_mask,
    minimal_actions,
    rom_path,
    to_full,
    to_minimal,
)
from pipelines.errors import UsageError, WorldlineError


def test_the_vocabulary_is_the_emulators_own() -> None:
    assert {name: action.value for name, action in Action.__members__.items()} == IDS
    assert len(ACTIONS) == 18


@pytest.mark.parametrize(
    ("game", "names"),
    [
        ("Freeway", "NOOP UP DOWN"),
        ("Breakout", "NOOP FIRE RIGHT LEFT"),
        ("Pong", "NOOP FIRE RIGHT LEFT RIGHTFIRE LEFTFIRE"),
        ("Skiing", "NOOP RIGHT LEFT"),
        ("MsPacman", "NOOP UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT"),
    ],
)
def test_minimal_sets_in_the_games_order(game: str, names: str) -> None:
    assert [ACTIONS[number] for number in minimal_actions(game)] == names.split()
    assert legal_mask(game).sum() == len(names.split())


@pytest.mark.parametrize("game", GAMES)
def test_every_game_maps_into_the_vocabulary_by_name(game: str) -> None:
    number = len(minimal_actions(game))
    names = [ACTIONS[action] for action in to_full(game, np.arange(number))]
    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator = ALEInterface()
    emulator.loadROM(str(rom_path(game)))
    assert names == [action.name for action in emulator.getMinimalActionSet()]
    legal = {action.name for action in emulator.getLegalActionSet()}
    assert set(names) <= legal and len(legal) == (9 if game == "Skiing" else 18)
    assert len(set(names)) == number and names[0] == "NOOP"


def test_boxing_uses_all_eighteen() -> None:
    assert minimal_actions("Boxing") == tuple(range(18))


@given(st.sampled_from(["Freeway", "Breakout", "Skiing"]), st.lists(st.integers(0, 2), max_size=20))
def test_to_minimal_undoes_to_full(game: str, own: list[int]) -> None:
    full = to_full(game, np.array(own, np.int32))
    assert full.dtype == np.uint8
    assert legal_mask(game)[full].all()
    assert to_minimal(game, full).tolist() == own


@pytest.mark.parametrize("bad", [-1, 3, 255])
def test_a_number_outside_the_games_set_is_refused(bad: int) -> None:
    with pytest.raises(WorldlineError, match=f"Action {bad} is none of Freeway's 3"):
        to_full("Freeway", [0, 1, bad])


def test_an_action_the_game_lacks_is_refused() -> None:
    with pytest.raises(WorldlineError, match="LEFT is no action of Freeway: choose among NOOP, UP, DOWN"):
        to_minimal("Freeway", [IDS["UP"], IDS["LEFT"]])


def test_unknown_game() -> None:
    with pytest.raises(UsageError, match="Unknown game 'Pang'"):
        minimal_actions("Pang")
