"""Action numbers against the games' own, and actions that are numbers themselves."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.spaces import Box
from pipelines.environments import registry
from pipelines.environments.actions import (
    action_names,
    legal_mask,
    network_actions,
    own_actions,
    stored_action,
    stored_actions,
    to_own,
    to_shared,
)
from pipelines.environments.atari.games import ACTIONS, IDS
from pipelines.environments.registry import Kind, protocol, spaces
from pipelines.errors import WorldlineError


def test_spaces_follow_the_rules_and_the_game() -> None:
    found = spaces("Freeway", protocol("iris"))
    assert found.frame == (64, 64, 3) and found.rewards == "raw"
    assert found.actions.names == ACTIONS and found.actions.legal == {"Freeway": ("NOOP", "UP", "DOWN")}
    assert spaces("Freeway", protocol("jowa")).frame_shape == (84, 84)
    assert own_actions("Freeway") == ("NOOP", "UP", "DOWN") and legal_mask("Freeway").sum() == 3


@given(st.sampled_from(["Freeway", "Breakout", "Skiing"]), st.lists(st.integers(0, 2), max_size=20))
def test_to_own_undoes_to_shared(game: str, own: list[int]) -> None:
    shared = to_shared(game, np.array(own, np.int32))
    assert shared.dtype == np.uint8
    assert legal_mask(game)[shared].all()
    assert to_own(game, shared).tolist() == own


@pytest.mark.parametrize("bad", [-1, 3, 255])
def test_a_number_outside_the_games_set_is_refused(bad: int) -> None:
    with pytest.raises(WorldlineError, match=f"Action {bad} is none of Freeway's 3"):
        to_shared("Freeway", [0, 1, bad])


def test_an_action_the_game_lacks_is_refused() -> None:
    with pytest.raises(WorldlineError, match="LEFT is no action of Freeway: choose among NOOP, UP, DOWN"):
        to_own("Freeway", [IDS["UP"], IDS["LEFT"]])


def test_actions_that_are_numbers_have_no_names_and_are_all_legal(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = Kind("nowhere", ("Pong",), lambda game: Box(4), {})
    monkeypatch.setattr(registry, "KINDS", (arm,))
    with pytest.raises(WorldlineError, match="Pong is played with 4 numbers an action"):
        own_actions("Pong")
    assert action_names("Pong") == () and legal_mask("Pong").shape == (0,)
    assert stored_action("Pong") == np.dtype((np.float32, (4,))) and stored_action("Pong").base == np.float32
    chosen = np.array([[0.5, -1, 1, 0.25]])
    for found in (network_actions("Pong", chosen), stored_actions("Pong", chosen)):
        assert found.dtype == np.float32 and np.array_equal(found, chosen)


def test_choices_are_numbered_for_networks_and_for_episodes() -> None:
    assert stored_action("Freeway") == np.uint8
    shared = network_actions("Freeway", np.array([0, 2], np.uint8))
    assert shared.dtype == np.int64 and stored_actions("Freeway", shared).tolist() == [0, 2]


def test_naming_games_loads_no_emulator() -> None:
    heavy = "{'ale_py', 'cv2', 'PIL', 'torch', 'pandas'}"
    code = f"import sys, pipelines.environments.actions as a; a.own_actions('Pong'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
