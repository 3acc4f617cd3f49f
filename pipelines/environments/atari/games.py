"""The 60 games of DQN-Replay (names, ids, ale-py's ROM of each) and the 18 actions, and which of them each game uses.

Everything is mapped by name: a game's own numbering ("minimal" ids, as stored in DQN-Replay) is a short list out of
the 18, and even ale-py's "full" set is not always 18 long (Skiing has 9). `environments/registry.py` translates.
Data: actions.json, each game's minimal set in its order, read from ale-py 0.12.1 once, as asking an emulator is slow;
a test compares all 60 with the ale-py that is installed.
"""

import functools
import hashlib
import json
import re
from importlib import resources
from pathlib import Path

from models.spaces import Discrete
from pipelines.errors import WorldlineError, unknown

# Alphabetical, as JOWA numbers its task embeddings (arXiv 2410.00564): `registry.game_id` counts in this order.
_ALL = """
    AirRaid Alien Amidar Assault Asterix Asteroids Atlantis BankHeist BattleZone BeamRider Berzerk Bowling Boxing
    Breakout Carnival Centipede ChopperCommand CrazyClimber DemonAttack DoubleDunk ElevatorAction Enduro FishingDerby
    Freeway Frostbite Gopher Gravitar Hero IceHockey Jamesbond JourneyEscape Kangaroo Krull KungFuMaster
    MontezumaRevenge MsPacman NameThisGame Phoenix Pitfall Pong Pooyan PrivateEye Qbert Riverraid RoadRunner Robotank
    Seaquest Skiing Solaris SpaceInvaders StarGunner Tennis TimePilot Tutankham UpNDown Venture VideoPinball
    WizardOfWor YarsRevenge Zaxxon
"""

GAMES = tuple(_ALL.split())

_NAMES = """
    NOOP FIRE UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT UPFIRE RIGHTFIRE LEFTFIRE DOWNFIRE UPRIGHTFIRE
    UPLEFTFIRE DOWNRIGHTFIRE DOWNLEFTFIRE
"""

ACTIONS = tuple(_NAMES.split())

IDS = {name: number for number, name in enumerate(ACTIONS)}


def check_game(name: str) -> str:
    """The name itself; raises UsageError with the nearest name when it is none of the 60."""
    if name not in GAMES:
        raise unknown("game", name, GAMES, "'worldline games' lists all 60")
    return name


def ale_name(name: str) -> str:
    """ale-py's name of the game: 'MsPacman' is 'ms_pacman'. Raises UsageError for an unknown name."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", check_game(name)).lower()


def rom_path(name: str) -> Path:
    """The ROM file inside ale-py. Raises UsageError for an unknown name, WorldlineError when ale-py lacks the file."""
    from ale_py import roms  # no emulator is loaded where games are only named

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


@functools.cache
def minimal_actions(game: str) -> tuple[int, ...]:
    """The game's own actions as ids of the 18, in the game's order: `minimal_actions(game)[3]` is its action 3."""
    return tuple(IDS[name] for name in _minimal_sets()[check_game(game)].split())


@functools.cache
def _minimal_sets() -> dict[str, str]:
    return json.loads(resources.files("pipelines.environments.atari").joinpath("actions.json").read_text())


@functools.cache
def actions(game: str) -> Discrete:
    """The 18 actions, and which of them `game` uses, in its order. Raises UsageError for an unknown name."""
    return Discrete(ACTIONS, {game: tuple(ACTIONS[number] for number in minimal_actions(game))})
