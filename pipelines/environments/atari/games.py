"""Atari by name: the 60 games of DQN-Replay and their ROMs in ale-py, the 18 actions, rules of play, scripted players.

Everything is mapped by name: a game's own numbering ("minimal" ids, as stored in DQN-Replay) is a short list out of
the 18, and even ale-py's "full" set is not always 18 long (Skiing has 9). `environments/registry.py` translates.
Data: actions.json, each game's minimal set in its order, read from ale-py 0.12.1 once, as asking an emulator is slow;
a test compares all 60 with the ale-py that is installed.

Agent steps are decisions, of `frame_skip` emulator frames each; papers count now the one, now the other.

Scripts are a few lines per game that beat random play clearly, so that collected replay rises in quality. A script is a
function of the frame in sight and the action played last, both of which an agent with a short context sees too, so that
a small network can learn to imitate it. All but Freeway's need eyes. Measured mean raw return over 8 whole episodes
with sticky actions, script against random play: Boxing 73.4 against 2.9, Breakout 17.0 against 0.6, Freeway 21.0
against 0.0, Pong -13.6 against -20.4.
Letters: N frames, H and W pixels (84x84), x to the right and y downwards.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
_100K = """
    Alien Amidar Assault Asterix BankHeist BattleZone Boxing Breakout ChopperCommand CrazyClimber DemonAttack Freeway
    Frostbite Gopher Hero Jamesbond Kangaroo Krull KungFuMaster MsPacman Pong PrivateEye Qbert RoadRunner Seaquest
    UpNDown
"""
GROUPS = {  # by name: all of them, and benchmarks; Kaiser et al. 2020 (arXiv 1903.00374) chose these 26
    "atari": GAMES,
    "atari100k": tuple(_100K.split()),
}
_NAMES = """
    NOOP FIRE UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT UPFIRE RIGHTFIRE LEFTFIRE DOWNFIRE UPRIGHTFIRE
    UPLEFTFIRE DOWNRIGHTFIRE DOWNLEFTFIRE
"""
ACTIONS = tuple(_NAMES.split())
IDS = {name: number for number, name in enumerate(ACTIONS)}
RESIZES = ("area", "bilinear")
GREY_APART = ("AirRaid",)  # its cartridge is of another television standard: four greys share one colour on RGB screens
Script = Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.int64]]
"""frames (N, 84, 84), last actions (N,) (NOOP in a new episode) -> actions (N,); actions are ids of the 18"""
_ACROSS = np.array([IDS["LEFT"], IDS["NOOP"], IDS["RIGHT"]])  # by direction + 1
_DOWN = np.array([IDS["UP"], IDS["NOOP"], IDS["DOWN"]])


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


# ---- rules of play ----


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


# ---- scripted players ----


def freeway(frames_NHW: NDArray[np.uint8], last_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Walk up, whatever comes."""
    return np.full(len(frames_NHW), IDS["UP"])


def breakout(frames_NHW: NDArray[np.uint8], last_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the paddle under the ball; serve when there is none below the bricks."""
    ball_NHW = frames_NHW[:, 40:75, 4:80] > 40
    ball_N, _ = _centre(ball_NHW)
    paddle_N, _ = _centre(frames_NHW[:, 76:78, 4:80] > 40)
    follow_N = _ACROSS[_direction(ball_N - paddle_N, slack=2.0) + 1]
    return np.where(ball_NHW.any((1, 2)), follow_N, IDS["FIRE"])


def pong(frames_NHW: NDArray[np.uint8], last_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the paddle at the ball's height; serve when there is no ball. RIGHT moves the paddle up, LEFT down."""
    ball_NHW = frames_NHW[:, 15:77, 8:74] > 170
    _, ball_N = _centre(ball_NHW)
    _, paddle_N = _centre((frames_NHW[:, 15:77, 73:76] > 120) & (frames_NHW[:, 15:77, 73:76] < 170))
    follow_N = _ACROSS[1 - _direction(ball_N - paddle_N, slack=2.0)]
    return np.where(ball_NHW.any((1, 2)), follow_N, IDS["FIRE"])


def boxing(frames_NHW: NDArray[np.uint8], last_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stand a little above the black boxer, close in to arm's length, and punch every other step.

    A held button holds the arm out and scores no more: only a fresh punch does, so FIRE and NOOP alternate.
    """
    ring_NHW = frames_NHW[:, 14:72, 17:66]
    white_x_N, white_y_N = _centre(ring_NHW > 190)
    black_x_N, black_y_N = _centre(ring_NHW < 30)
    down_N = _direction(black_y_N - white_y_N - 3.0, slack=2.0)
    across_N = _direction(black_x_N - white_x_N, slack=10.0)
    punch_N = np.where(last_N == IDS["FIRE"], IDS["NOOP"], IDS["FIRE"])
    return np.where(down_N != 0, _DOWN[down_N + 1], np.where(across_N != 0, _ACROSS[across_N + 1], punch_N))


SCRIPTS: dict[str, Script] = {"Boxing": boxing, "Breakout": breakout, "Freeway": freeway, "Pong": pong}


def _centre(mask_NHW: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean x and mean y of the marked pixels, each (N,); 0 where none is marked."""
    count_N = mask_NHW.sum((1, 2)).clip(1)
    x_N = mask_NHW.sum(1) @ np.arange(mask_NHW.shape[2]) / count_N
    y_N = mask_NHW.sum(2) @ np.arange(mask_NHW.shape[1]) / count_N
    return x_N, y_N


def _direction(offset_N: NDArray[np.float64], slack: float) -> NDArray[np.int64]:
    """-1, 0 or 1: which way to go, standing still within `slack` pixels."""
    return np.where(np.abs(offset_N) > slack, np.sign(offset_N), 0).astype(np.int64)
