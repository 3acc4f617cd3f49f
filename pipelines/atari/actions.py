"""The 18 actions of the Atari joystick, and which of them each game uses.

Everything is mapped by name: a game's own numbering ("minimal" ids, as stored in DQN-Replay) is a short list out of
the 18, and even ale-py's "full" set is not always 18 long (Skiing has 9).
Data: actions.json, each game's minimal set in its order, read from ale-py 0.12.1 once (asking an emulator costs 70 ms a
game); a test compares all 60 with the ale-py that is installed.
"""

import functools
import json
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.atari.games import check_game
from pipelines.errors import WorldlineError

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
    return json.loads(resources.files("pipelines.atari").joinpath("actions.json").read_text())


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
