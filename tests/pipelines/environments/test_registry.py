"""What can be played: names, rules, and action numbers against the games' own."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.spaces import Box
from pipelines.environments import registry
from pipelines.environments.atari.games import ACTIONS, IDS
from pipelines.environments.registry import (
    GAMES,
    Kind,
    canonical,
    check_game,
    game_id,
    game_named,
    legal_mask,
    own_actions,
    protocol,
    spaces,
    to_own,
    to_shared,
)
from pipelines.errors import UsageError, WorldlineError


def test_atari_comes_first_and_is_numbered_alphabetically() -> None:
    assert GAMES[:60] == tuple(sorted(GAMES[:60]))
    assert [game_id(name) for name in ("AirRaid", "Assault", "Pong", "Zaxxon")] == [0, 3, 39, 59]


@pytest.mark.parametrize("name", ["MsPackman", "ms_pacman", "mspacman", "", "../Pong", "Pong\n"])
def test_a_wrong_name_is_a_usage_error_in_one_line(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_game(name)
    assert f"Unknown game '{name.strip()}" in str(caught.value)
    assert "'worldline games' lists all 61" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["MsPacman", "mspacman", "MSPACMAN", " ms_pacman ", "Ms Pacman", "ms-pacman", "ALE/MsPacman-v5", "ale/mspacman-v5",
     "MsPacman-v0", "MsPacmanNoFrameskip-v4", "MsPacmanDeterministic-v4"],
)  # fmt: skip
def test_a_game_is_understood_as_people_type_it(text: str) -> None:
    assert game_named(text) == "MsPacman"


def test_every_games_names_lead_to_it_alone() -> None:
    assert [game_named(f"ALE/{name.upper()}-v5") for name in GAMES] == list(GAMES)


@pytest.mark.parametrize("text", ["", "-v4", "ALE/", "FREEWYA", "NoFrameskip-v4", "Pong-v"])
def test_what_nobody_can_understand_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Unknown game"):
        game_named(text)
    with pytest.raises(UsageError, match=r"did you mean 'Freeway'\?"):
        game_named("FREEWYA")


def test_the_error_names_the_nearest_game() -> None:
    with pytest.raises(UsageError, match=r"^Unknown game 'MsPackman': did you mean 'MsPacman'\?"):
        check_game("MsPackman")


def test_machado_is_another_name_of_sticky() -> None:
    assert protocol("machado") is protocol("sticky")
    assert canonical("machado") == canonical("sticky") == "sticky"
    assert canonical("jowa") == "jowa"


def test_unknown_protocol() -> None:
    with pytest.raises(UsageError, match=r"Unknown protocol 'stiky': did you mean 'sticky'\?"):
        protocol("stiky")


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


def test_actions_without_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = Kind("nowhere", ("Pong",), lambda game: Box(4), {})
    monkeypatch.setattr(registry, "KINDS", (arm,))
    with pytest.raises(WorldlineError, match="Pong is played with 4 numbers an action"):
        legal_mask("Pong")


def test_naming_games_loads_no_emulator() -> None:
    heavy = "{'ale_py', 'cv2', 'PIL', 'torch', 'pandas'}"
    code = f"import sys, pipelines.environments.registry as r; r.own_actions('Pong'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
