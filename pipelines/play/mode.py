"""What can be played and watched: every mode answers the same few calls, on a screen or without one.

A mode is a line of steps that begins with `reset`. After a step that ended an episode, the next one begins another: it
shows the first picture and plays nothing. Equal source, seed and actions give equal pictures.
Run: `worldline play EXPERIMENT --headless --mode dream --steps 200 --out film.mp4`.
Letters: H, W pixels, A actions that a person can choose.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.spaces import Box
from pipelines.environments.registry import actions
from pipelines.errors import UsageError, unknown
from pipelines.play.source import Action, PlaySource

LONGEST = 9_000  # steps of a recording: ten minutes of the game
RECORDING = "recording.npz"


@dataclass(frozen=True)
class Shown:
    """What one step shows.

    pictures: by title, (H, W) grey or (H, W, 3) RGB, of sizes that stay. step: since the episode began. action: the one
    that led here, a place in `Mode.actions`, or its numbers; None at a beginning. reward and total: of that step and of
    the episode so far, the game's own points or what a model predicts. values: (A,) of each action at what is shown,
    None where there are none; `facts["values"]` says what they are. facts: for a header, in words.
    """

    pictures: Mapping[str, NDArray[np.uint8]]
    step: int
    action: Action | None = None
    reward: float = 0.0
    total: float = 0.0
    ended: bool = False
    values: NDArray[np.float32] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


class Mode(Protocol):
    """One way of playing."""

    name: str
    actions: tuple[str, ...]  # names of those that a person can choose, in the game's own order; none of numbers
    asks: bool  # whether a person plays

    def reset(self, seed: int | None = None) -> Shown:
        """Begin anew, with draws from `seed`, the source's own unless given."""

    def step(self, action: int | None) -> Shown:
        """Play one action, a place in `actions`; None is no-op where a person plays, and ignored where nobody does.

        Raises UsageError for a place that there is not.
        """

    def close(self) -> None:
        """Let go of emulators and files. Nothing can be played afterwards."""


class Browsing(Mode, Protocol):
    """The mode of episodes that were played already: a step shows the next one. Here `Shown.action` and `reward` are
    what was done at the picture that is shown, and what it brought."""

    sets: tuple[str, ...]  # kinds of episodes that there are
    of: str  # the one that is shown
    lengths: tuple[int, ...]  # steps of each of its episodes

    def choose(self, of: str) -> Shown:
        """Show another kind, from its first episode on. Raises UsageError for one that there is not."""

    def seek(self, episode: int, step: int) -> Shown:
        """Go there. Raises UsageError for what there is not."""


MODES: Mapping[str, str] = MappingProxyType(
    {
        "agent": "pipelines.play.in_game:AgentMode",
        "game": "pipelines.play.in_game:GameMode",
        "dream": "pipelines.play.in_dream:DreamMode",
        "dream-agent": "pipelines.play.in_dream:DreamingAgentMode",
        "versus": "pipelines.play.versus:VersusMode",
        "episodes": "pipelines.play.browse:EpisodesMode",
    }
)
"""by name, where its class is: it is called with a `PlaySource`, and imports torch only where a model is asked"""

ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "agent": "the checkpoint plays the game",
        "game": "you play the game",
        "dream": "you play inside the world model, from a real beginning",
        "dream-agent": "the checkpoint plays inside its world model",
        "versus": "the same actions drive the world model and the game, side by side",
        "episodes": "what was played before, a step at a time",
    }
)


ASKING = ("game", "dream", "versus")  # where a person plays


def modes_of(game: str) -> tuple[str, ...]:
    """The modes in which a game can be played: where an action is numbers, no key of a person's says one."""
    return tuple(name for name in MODES if name not in ASKING or not isinstance(actions(game), Box))


def require_mode(name: str, game: str) -> None:
    """Raises UsageError for a mode that there is not, and for one that the game cannot be played in."""
    if name not in MODES:
        raise unknown("mode", name, MODES, "'worldline play --help' explains them")
    space = actions(game)
    if name not in modes_of(game) and isinstance(space, Box):
        raise UsageError(
            f"In mode '{name}' a person plays, and an action of {game} is {space.size} numbers, which no key says: "
            f"choose --mode {', '.join(modes_of(game))}"
        )


def words(action: Action | None) -> dict[str, str]:
    """For a header, an action that is numbers."""
    return {"action": " ".join(f"{number:+.2f}" for number in action)} if isinstance(action, tuple) else {}


def open_mode(name: str, player: PlaySource) -> Mode:
    """The mode of that name. Raises UsageError as `require_mode`."""
    require_mode(name, player.game)
    module, _, kind = MODES[name].partition(":")
    build: Callable[[PlaySource], Any] = getattr(importlib.import_module(module), kind)
    return build(player)
