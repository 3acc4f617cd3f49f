"""Atari by name: the 60 games of DQN-Replay and their ROMs in ale-py, the 18 actions, and the named rules of play.

Everything is mapped by name: a game's own numbering ("minimal" ids, as stored in DQN-Replay) is a short list out of
the 18, and even ale-py's "full" set is not always 18 long (Skiing has 9). `environments/registry.py` translates.
Data: actions.json, each game's minimal set in its order, read from ale-py 0.12.1 once, as asking an emulator is slow;
a test compares all 60 with the ale-py that is installed.

Agent steps are decisions, of `frame_skip` emulator frames each; papers count now the one, now the other.
"""

import functools
import hashlib
import json
import re
from dataclasses import dataclass
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
RESIZES = ("area", "bilinear")


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


@dataclass(frozen=True)
class AtariRules:
    """`sticky` is the chance that the emulator repeats the previous action, drawn each emulator frame.

    One agent step is `frame_skip` emulator frames. Before the first one, `noop_min` to `noop_max` - 1 emulator frames
    of no-ops are drawn by the episode's seed (none where `noop_max` is 0). An episode is truncated after `max_frames`
    emulator frames. `life_loss` ends an episode, but not the game, with every life. Rewards are never clipped here.
    A frame is square, of `frame_size` pixels, grey or in `colour`. Resize "area" is Dopamine's: the maximum of the last
    two screens, resized as cv2's INTER_AREA does. "bilinear" is IRIS's: both screens resized by Pillow's bilinear
    filter, then their maximum. Raises ValueError for another resize and for no-ops that cannot be drawn.
    """

    name: str
    sticky: float
    frame_skip: int = 4
    noop_max: int = 0
    max_frames: int = 108_000
    full_action_space: bool = False
    noop_min: int = 0
    life_loss: bool = False
    frame_size: int = 84
    colour: bool = False
    resize: str = "area"

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"Resize '{self.resize}' is unknown: choose {' or '.join(RESIZES)}")
        if not 0 <= self.noop_min <= max(self.noop_max - 1, 0):
            raise ValueError(
                f"No-ops from {self.noop_min} to below {self.noop_max} cannot be drawn: noop_min must be below noop_max"
            )

    @property
    def max_steps(self) -> int:
        """Agent steps after which an episode is truncated."""
        return self.max_frames // self.frame_skip

    @property
    def frame(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames that are shown."""
        return self.frame_size, self.frame_size, 3 if self.colour else 1


PROTOCOLS = {
    # The stochasticity of Machado et al. 2018 (arXiv 1709.06009) under Dopamine's rules (arXiv 1812.06110), by which
    # DQN-Replay was collected: 27,000 agent steps, half an hour; frame skip 4; the game's minimal action set.
    "sticky": AtariRules("sticky", sticky=0.25),
    # JOWA's evaluation (arXiv 2410.00564): no sticky actions, at most 108,000 agent steps.
    "jowa": AtariRules("jowa", sticky=0.0, max_frames=432_000),
    # Atari 100k (arXiv 1903.00374): no sticky actions, 27,000 agent steps, up to 29 frames of no-ops to start with.
    # Its papers agree on the first two alone. No-ops: rlpyt, under SPR (arXiv 2007.05929), 1 to 30 emulator frames;
    # Dopamine's runner (arXiv 2108.13264) 0 to 29 agent steps; IRIS (arXiv 2209.00588) one frame. Losing a life ends
    # their episodes in training, not in evaluation. They report 100 episodes.
    "atari100k": AtariRules("atari100k", sticky=0.0, noop_max=30),
    # IRIS (arXiv 2209.00588): Atari 100k as its code plays it, 64x64 RGB. Evaluation begins with one no-op frame and
    # cuts after 108,000 emulator frames; training begins with 1 to 30, cuts after 20,000 and ends with every life.
    "iris": AtariRules("iris", 0.0, noop_min=1, noop_max=2, frame_size=64, colour=True, resize="bilinear"),
    "iris-train": AtariRules(
        "iris-train",
        sticky=0.0,
        noop_min=1,
        noop_max=31,
        max_frames=20_000,
        life_loss=True,
        frame_size=64,
        colour=True,
        resize="bilinear",
    ),
}


ALIASES = {"machado": "sticky"}
