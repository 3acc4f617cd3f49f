"""The 60 games of DQN-Replay: their names, their ids, and the ROM that ale-py ships for each."""

import functools
import hashlib
import re
from pathlib import Path

from ale_py import roms

from pipelines.errors import WorldlineError, unknown

# A game's id is its index here: alphabetical, as JOWA numbers its task embeddings (arXiv 2410.00564).
_ALL = """
    AirRaid Alien Amidar Assault Asterix Asteroids Atlantis BankHeist BattleZone BeamRider Berzerk Bowling Boxing
    Breakout Carnival Centipede ChopperCommand CrazyClimber DemonAttack DoubleDunk ElevatorAction Enduro FishingDerby
    Freeway Frostbite Gopher Gravitar Hero IceHockey Jamesbond JourneyEscape Kangaroo Krull KungFuMaster
    MontezumaRevenge MsPacman NameThisGame Phoenix Pitfall Pong Pooyan PrivateEye Qbert Riverraid RoadRunner Robotank
    Seaquest Skiing Solaris SpaceInvaders StarGunner Tennis TimePilot Tutankham UpNDown Venture VideoPinball
    WizardOfWor YarsRevenge Zaxxon
"""
GAMES = tuple(_ALL.split())
_TRAINING = """
    Assault Atlantis BeamRider Berzerk Carnival Centipede ChopperCommand DemonAttack NameThisGame Phoenix Seaquest
    SpaceInvaders StarGunner TimePilot Zaxxon
"""
JOWA_TRAINING = tuple(_TRAINING.split())
JOWA_HELD_OUT = ("Gravitar", "MsPacman", "Pong", "Robotank", "YarsRevenge")


def check_game(name: str) -> str:
    """The name itself; raises UsageError with the nearest name when it is none of the 60."""
    if name not in GAMES:
        raise unknown("game", name, GAMES, "'worldline games' lists all 60")
    return name


def game_id(name: str) -> int:
    """Index in GAMES; raises UsageError for an unknown name."""
    return GAMES.index(check_game(name))


def ale_name(name: str) -> str:
    """ale-py's name of the game: 'MsPacman' is 'ms_pacman'. Raises UsageError for an unknown name."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", check_game(name)).lower()


def rom_path(name: str) -> Path:
    """The ROM file inside ale-py. Raises UsageError for an unknown name, WorldlineError when ale-py lacks the file."""
    try:
        path = roms.get_rom_path(ale_name(name))
    except OSError as error:
        raise WorldlineError(f"The ROM of {name} is damaged ({error}): reinstall ale-py") from error
    if path is None:
        raise WorldlineError(f"This ale-py has no ROM of {name}: install ale-py 0.12.1 or newer, whose wheel holds it")
    return Path(path)


@functools.cache
def rom_md5(name: str) -> str:
    """Hex md5 of the ROM, the identity by which ROMs are known; 29 of the 60 differ from those behind DQN-Replay."""
    return hashlib.md5(rom_path(name).read_bytes(), usedforsecurity=False).hexdigest()
