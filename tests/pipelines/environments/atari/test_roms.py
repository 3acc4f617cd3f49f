"""The ledger against the shipped files, and a user's folder that is right, wrong, empty or absent."""

import shutil
from pathlib import Path

import pytest

from pipelines.environments.atari import roms
from pipelines.environments.atari.games import GAMES
from pipelines.errors import UsageError, WorldlineError


def test_31_of_the_shipped_roms_are_those_of_dqn_replay() -> None:
    found = [roms.shipped(game) for game in GAMES]
    assert sum(rom.is_replays for rom in found) == 31
    assert not {rom.game for rom in found if not rom.is_replays} & {"Breakout", "Pong", "Seaquest"}


def test_a_users_rom_is_known_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    shutil.copyfile(roms.shipped("Pong").path, tmp_path / "Video Olympics.BIN")
    found = roms.find("Pong", tmp_path)
    assert (found.origin, found.md5, found.path.name) == ("yours", roms.replay_md5("Pong"), "Video Olympics.BIN")


def test_a_folder_with_another_rom_says_which_is_wanted(tmp_path: Path) -> None:
    shutil.copyfile(roms.shipped("Assault").path, tmp_path / "assault.bin")
    with pytest.raises(UsageError, match=r"no Assault of md5 c31a17.*its assault\.bin is another one"):
        roms.find("Assault", tmp_path)
    with pytest.raises(UsageError, match=r"none of its 1 files is"):
        roms.find("Amidar", tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        roms.find("Amidar", tmp_path / "absent")


def test_a_rom_other_than_recorded_is_refused() -> None:
    roms.require("Pong", roms.shipped("Pong").md5)
    with pytest.raises(WorldlineError, match=r"The ROM of Pong has md5 .* not 00: the scores would not compare"):
        roms.require("Pong", "00")


def test_a_rom_is_ale_pys_or_named(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(roms.shipped("Pong").path.read_bytes())
    assert roms.chosen("Pong", str(tmp_path)).origin == "shipped"  # the same bytes
    with pytest.raises(WorldlineError, match=r"The ROM of Pong has md5 .*, not 00"):
        roms.chosen("Pong", md5="0" * 32)
    with pytest.raises(UsageError, match="ROM folder /nowhere cannot be read"):
        roms.chosen("Pong", "/nowhere")
