"""What an agent sees and does: the size of a frame, its actions, its rewards. Plain data without torch.

A checkpoint states its spaces in agent.json, an environment states its own, and `require_fit` compares the two:
nothing else in the house knows how large a frame is or how many actions there are.
Letters: H, W pixels, C channels (1 grey, 3 RGB), A actions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

REWARDS = ("raw", "clipped")


def noisy_frames(frames: NDArray[np.uint8], normal: NDArray[np.float64], std: float) -> NDArray[np.float64]:
    """clip(frame + 255 std n, 0, 255), not rounded: frames seen through noise (the IRIS thesis).

    normal: draws n of the standard normal distribution, one a pixel and channel, in the frames' shape. std: the noise's
    standard deviation as a share of a pixel's range.
    """
    return np.clip(frames + 255 * std * normal, 0, 255)


@dataclass(frozen=True)
class Discrete:
    """A choice among A named actions, each known by its index in `names`.

    Several games may share one set of actions: `legal` names those that a game uses, in the game's own order. A game
    that `legal` does not list uses all of them. Raises ValueError for no names, equal names, and legal actions that
    are none, equal or unknown.
    """

    names: tuple[str, ...]
    legal: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _require_names("actions", self.names)
        for game, names in self.legal.items():
            _require_names(f"legal actions of {game}", names)
            if strangers := [name for name in names if name not in self.names]:
                raise ValueError(
                    f"'{strangers[0]}' is legal in {game} and none of the {len(self.names)} actions: choose among "
                    f"{', '.join(self.names)}"
                )

    def __len__(self) -> int:
        """A."""
        return len(self.names)

    def own(self, game: str) -> tuple[int, ...]:
        """The actions of a game in the game's own order: `own(game)[3]` is the index of the game's action 3."""
        return tuple(self.names.index(name) for name in self.legal.get(game, self.names))

    def mask(self, game: str) -> tuple[bool, ...]:
        """A flags: True where the game uses the action."""
        used = set(self.legal.get(game, self.names))
        return tuple(name in used for name in self.names)


@dataclass(frozen=True)
class Box:
    """`size` real numbers at once, each within `low` and `high`. Raises ValueError for no number or an empty range."""

    size: int
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"An action of {self.size} numbers is impossible: give a whole number of at least 1")
        if not self.low < self.high:
            raise ValueError(f"Actions from {self.low} to {self.high} are impossible: low must be below high")


@dataclass(frozen=True)
class Spaces:
    """`frame` is (H, W, C). `rewards` are "raw" points of the game, or "clipped" to -1 .. 1 before anything learns.

    Raises ValueError for a size below 1, channels other than 1 or 3, and unknown rewards.
    """

    frame: tuple[int, int, int]
    actions: Discrete | Box
    rewards: str = "raw"

    def __post_init__(self) -> None:
        whole = all(type(size) is int and size >= 1 for size in self.frame)
        if len(self.frame) != 3 or not whole or self.frame[2] not in (1, 3):
            raise ValueError(
                f"Frames of {tuple(self.frame)} are impossible: give height and width of at least 1, and 1 channel "
                "(grey) or 3 (RGB)"
            )
        if self.rewards not in REWARDS:
            raise ValueError(f"Rewards '{self.rewards}' are unknown: choose {' or '.join(REWARDS)}")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one frame as an array: (H, W) where it is grey, (H, W, 3) where it is RGB."""
        return self.frame[:2] if self.frame[2] == 1 else self.frame

    def require_fit(self, environment: "Spaces", who: str, where: str) -> None:
        """Raises ValueError where an agent of these spaces cannot play in an environment of those.

        `who` and `where` name the two in the message. Rewards may differ: they are for learning.
        """
        if self.frame != environment.frame:
            raise ValueError(
                f"{who} sees frames of {_size(self.frame)}, {where} shows {_size(environment.frame)}: choose a "
                "protocol of the agent's frame size and colour"
            )
        ours, theirs = self.actions, environment.actions
        if isinstance(ours, Discrete) and isinstance(theirs, Discrete):
            same = ours.names == theirs.names  # which of them a game uses is the environment's to say
        else:
            same = ours == theirs
        if not same:
            raise ValueError(
                f"{who} chooses among {_kind(ours)}, {where} takes {_kind(theirs)}: play what has the agent's actions"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; `from_json` gives equal spaces again."""
        if isinstance(self.actions, Box):
            actions: dict[str, Any] = {"box": self.actions.size, "low": self.actions.low, "high": self.actions.high}
        else:
            legal = {game: list(names) for game, names in self.actions.legal.items()}
            actions = {"names": list(self.actions.names)} | ({"legal": legal} if legal else {})
        return {"frame": list(self.frame), "actions": actions, "rewards": self.rewards}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Spaces":
        """What `to_json` gave. Raises ValueError for anything else, naming what is wrong with it."""
        try:
            actions = data["actions"]
            if "box" in actions:
                space: Discrete | Box = Box(actions["box"], float(actions["low"]), float(actions["high"]))
            else:
                legal = {str(game): tuple(names) for game, names in actions.get("legal", {}).items()}
                space = Discrete(tuple(actions["names"]), legal)
            return cls(tuple(data["frame"]), space, data["rewards"])
        except KeyError as error:
            raise ValueError(
                f"Spaces without {error}: give frame, actions (names or box, low, high), rewards"
            ) from error
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"Spaces {str(data)[:80]} are of another form ({error}): write them with to_json"
            ) from error


def _require_names(what: str, names: Sequence[str]) -> None:
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"The {what} are {list(names)}: give at least one name, none of them empty")
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"The {what} name '{twice}' twice: give each once")


def _size(frame: tuple[int, int, int]) -> str:
    return f"{frame[0]}x{frame[1]} {'grey' if frame[2] == 1 else 'RGB'}"


def _kind(actions: Discrete | Box) -> str:
    if isinstance(actions, Box):
        return f"{actions.size} numbers from {actions.low:g} to {actions.high:g}"
    shown = ", ".join(actions.names[:3])
    return f"{len(actions)} actions ({shown}{', ...' if len(actions) > 3 else ''})"
