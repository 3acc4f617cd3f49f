"""What an action of a game is to those who store it and to networks that learn it.

A choice among named actions has two numbers: the game's own, by which episodes hold it, and that of the spaces, which
several games share. Where an action is numbers (a `Box`) there is nothing to translate: both hold float32.
Run: `python -c "from pipelines.environments.actions import own_actions; print(own_actions('Pong'))"`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.spaces import Box, Discrete
from pipelines.environments.registry import actions
from pipelines.errors import WorldlineError


def own_actions(game: str) -> tuple[str, ...]:
    """Names of the game's own actions in its own numbering, which is that of stored episodes.

    Raises UsageError for an unknown game, WorldlineError for one whose actions have no names (`action_names`).
    """
    return tuple(_discrete(game).names[number] for number in _discrete(game).own(game))


def action_names(game: str) -> tuple[str, ...]:
    """As `own_actions`; none where actions are numbers. A file of episodes names them so."""
    return () if isinstance(actions(game), Box) else own_actions(game)


def legal_mask(game: str) -> NDArray[np.bool_]:
    """(A,) bool: True where the game uses the action; (0,) where its actions are numbers, all of them legal.

    Raises UsageError for an unknown game.
    """
    space = actions(game)
    return np.zeros(0, np.bool_) if isinstance(space, Box) else np.array(space.mask(game))


def to_shared(game: str, own: ArrayLike) -> NDArray[np.uint8]:
    """Turn a game's own action numbers (any shape, integers) into those of its spaces, uint8 of the same shape.

    Raises WorldlineError naming the first number that the game does not have.
    """
    table, ids = np.array(_discrete(game).own(game), np.uint8), np.asarray(own)
    if bad := ids[(ids < 0) | (ids >= len(table))].tolist():
        raise WorldlineError(
            f"Action {bad[0]} is none of {game}'s {len(table)}: its own are numbered 0 to {len(table) - 1}; "
            "was the replay recorded with another action set?"
        )
    return table[ids]


def to_own(game: str, shared: ArrayLike) -> NDArray[np.int32]:
    """The reverse of `to_shared`: numbers of the game's spaces (any shape) into the game's own, int32.

    Raises WorldlineError naming the first action that the game does not use.
    """
    space = _discrete(game)
    table = np.full(len(space), -1, np.int32)
    table[list(space.own(game))] = np.arange(len(space.own(game)))
    found = table[np.asarray(shared)]
    if (found < 0).any():
        first = space.names[np.asarray(shared)[found < 0].flat[0]]
        raise WorldlineError(f"{first} is no action of {game}: choose among {', '.join(own_actions(game))}")
    return found


def stored_action(game: str) -> np.dtype[Any]:
    """One action as episodes hold it: a byte, the game's own number of it; or float32 (size,) of a Box."""
    space = actions(game)
    return np.dtype((np.float32, (space.size,))) if isinstance(space, Box) else np.dtype(np.uint8)


def network_actions(game: str, stored: ArrayLike) -> NDArray[Any]:
    """Actions as episodes hold them, as networks read them: int64 numbers of the game's spaces, or float32 of a Box.

    Raises as `to_shared`.
    """
    if isinstance(actions(game), Box):
        return np.asarray(stored, np.float32)
    return to_shared(game, stored).astype(np.int64)


def stored_actions(game: str, chosen: ArrayLike) -> NDArray[Any]:
    """The reverse of `network_actions`: what a player chose, as episodes hold it. Raises as `to_own`."""
    if isinstance(actions(game), Box):
        return np.asarray(chosen, np.float32)
    return to_own(game, chosen)


def _discrete(game: str) -> Discrete:
    found = actions(game)
    if isinstance(found, Box):
        raise WorldlineError(f"{game} is played with {found.size} numbers an action, which have no names or numbers")
    return found
