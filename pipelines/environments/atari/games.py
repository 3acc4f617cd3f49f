"""The 60 games of DQN-Replay (names, ids, ale-py's ROM of each) and the 18 actions, and which of them each game uses.

Everything is mapped by name: a game's own numbering ("minimal" ids, as stored in DQN-Replay) is a short list out of
the 18, and even ale-py's "full" set is not always 18 long (Skiing has 9).
Data: actions.json, each game's minimal set in its order, read from ale-py 0.12.1 once, as asking an emulator is slow;
a test compares all 60 with the ale-py that is installed.
"""

import functools
import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
from ale_py import roms
from numpy.typing import ArrayLike, NDArray

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


_NAMES = """
    NOOP FIRE UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT UPFIRE RIGHTFIRE LEFTFIRE DOWNFIRE UPRIGHTFIRE
    UPLEFTFIRE DOWNRIGHTFIRE DOWNLEFTFIRE
"""

ACTIONS = tuple(_NAMES.split())

IDS = {name: number for number, name in enumerate(ACTIONS)}


@functools.cache
def minimal_actions(game: str) -> tuple[int, ...]:
    """The game's own actions as ids of the 18, in the game's order: `minimal_actions(game)[3]` is its action 3."""
    return tuple(IDS[name] for name in _minimal_sets()[check_game(game)].split())


@functools.cache
def _minimal_sets() -> dict[str, str]:
    return json.loads(resources.files("pipelines.environments.atari").joinpath("actions.json").read_text())


def to_full(game: str, minimal_ids: ArrayLike) -> NDArray[np.uint8]:
    """Turn a game's own action numbers (any shape, integers) into ids of the 18, uint8 of the same shape.

    Raises WorldlineError naming the first number that the game does not have.
    """
    table = np.array(minimal_actions(game), np.uint8)
    ids = np.asarray(minimal_ids)
    if bad := ids[(ids < 0) | (ids >= len(table))].tolist():
        raise WorldlineError(
            f"Action {bad[0]} is none of {game}'s {len(table)}: its minimal set is numbered 0 to {len(table) - 1}; "
            "was the replay recorded with another action set?"
        )
    return table[ids]


def to_minimal(game: str, full_ids: ArrayLike) -> NDArray[np.int32]:
    """The reverse of `to_full`: ids of the 18 (any shape) into the game's own numbers, int32.

    Raises WorldlineError naming the first action that the game does not use.
    """
    table = np.full(len(ACTIONS), -1, np.int32)
    table[list(minimal_actions(game))] = np.arange(len(minimal_actions(game)))
    found = table[np.asarray(full_ids)]
    if (found < 0).any():
        first = ACTIONS[np.asarray(full_ids)[found < 0].flat[0]]
        names = ", ".join(ACTIONS[number] for number in minimal_actions(game))
        raise WorldlineError(f"{first} is no action of {game}: choose among {names}")
    return found


def legal_mask(game: str) -> NDArray[np.bool_]:
    """(18,) bool: True where the game uses the action."""
    mask = np.zeros(len(ACTIONS), np.bool_)
    mask[list(minimal_actions(game))] = True
    return mask
