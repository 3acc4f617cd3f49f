"""What can be played: names, rules, and action numbers against the games' own."""

import pytest

from pipelines.environments.registry import GAMES, canonical, check_game, game_id, game_named, protocol
from pipelines.errors import UsageError


def test_atari_comes_first_and_is_numbered_alphabetically() -> None:
    assert GAMES[:60] == tuple(sorted(GAMES[:60]))
    assert [game_id(name) for name in ("AirRaid", "Assault", "Pong", "Zaxxon")] == [0, 3, 39, 59]


@pytest.mark.parametrize("name", ["MsPackman", "ms_pacman", "mspacman", "", "../Pong", "Pong\n"])
def test_a_wrong_name_is_a_usage_error_in_one_line(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_game(name)
    assert f"Unknown game '{name.strip()}" in str(caught.value)
    assert "'worldline games' lists all 111" in str(caught.value)


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
