"""Networks of released checkpoints, each of one game whose actions they know by the game's own numbers."""

from dataclasses import replace
from typing import TypeVar

from models.practice.config import PlayedConfig
from models.spaces import Discrete
from pipelines.environments.actions import own_actions, to_shared
from pipelines.environments.registry import GAMES, actions
from pipelines.errors import UsageError

Config = TypeVar("Config", bound=PlayedConfig)


def of_game(found: Config, game: str) -> Config:
    """The networks as those of a game: their actions are its own, by their numbers in it.

    Raises UsageError where they know more or fewer actions than the game has.
    """
    known, own = found.world_model.num_actions, own_actions(game)
    if known != len(own):
        named = (each for each in GAMES if isinstance(actions(each), Discrete))
        others = [each for each in named if len(own_actions(each)) == known][:3]
        raise UsageError(
            f"It knows {known} actions and {game} has {len(own)} ({', '.join(own)}): say --game GAME, the one that it "
            f"was trained on" + (f", such as {', '.join(others)}" if others else "; no game here has so many")
        )
    return replace(found, actions=tuple(to_shared(game, range(known)).tolist()))
