"""The 60 games and their ROMs."""

import re

import pytest

from pipelines.environments.atari.games import (
    GAMES,
    JOWA_HELD_OUT,
    JOWA_TRAINING,
    ale_name,
    check_game,
    game_id,
    rom_md5,
    rom_path,
)
from pipelines.errors import UsageError


def test_sixty_games_numbered_alphabetically() -> None:
    assert len(GAMES) == len(set(GAMES)) == 60
    assert list(GAMES) == sorted(GAMES)
    assert [game_id(name) for name in ("AirRaid", "Assault", "Pong", "Zaxxon")] == [0, 3, 39, 59]


def test_jowa_has_fifteen_games_for_training_and_five_held_out() -> None:
    assert len(JOWA_TRAINING) == 15
    assert len(JOWA_HELD_OUT) == 5
    assert len({*JOWA_TRAINING, *JOWA_HELD_OUT} & {*GAMES}) == 20


def test_every_game_has_its_own_rom() -> None:
    assert all(rom_path(name).is_file() for name in GAMES)
    digests = {rom_md5(name) for name in GAMES}
    assert len(digests) == 60
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in digests)


def test_names_as_ale_py_spells_them() -> None:
    spelled = [ale_name(name) for name in ("MsPacman", "UpNDown", "Qbert", "KungFuMaster", "Jamesbond", "WizardOfWor")]
    assert spelled == ["ms_pacman", "up_n_down", "qbert", "kung_fu_master", "jamesbond", "wizard_of_wor"]


@pytest.mark.parametrize("name", ["MsPackman", "ms_pacman", "mspacman", "", "../Pong", "Pong\n"])
def test_a_wrong_name_is_a_usage_error_in_one_line(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_game(name)
    assert f"Unknown game '{name}'" in str(caught.value)
    assert "'worldline games' lists all 60" in str(caught.value)


def test_the_error_names_the_nearest_game() -> None:
    with pytest.raises(UsageError, match=r"^Unknown game 'MsPackman': did you mean 'MsPacman'\?"):
        ale_name("MsPackman")
