"""World models as others know them: what they begin with, what they imagine, and how they are searched and played.

`models.api` passes these names on. Shapes: C steps of context, K tokens a frame, A actions, R nodes of an environment,
M = N * R rows, N environments or imagined rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True)
class Context:
    """The newest C steps of N rows: every frame's tokens, and the actions between them (one fewer).

    Raises ValueError where the shapes disagree.
    """

    tokens_NCK: Tensor  # long, or what the family sees instead
    actions_NC: Tensor  # long (N, C - 1), or float (N, C - 1, A) where an action is A numbers
    games_N: Tensor  # long

    def __post_init__(self) -> None:
        if self.tokens_NCK.ndim != 3 or self.tokens_NCK.shape[1] < 1:
            raise ValueError(
                f"Context tokens have shape {tuple(self.tokens_NCK.shape)}: give (rows, steps >= 1, tokens)"
            )
        rows, steps, _ = self.tokens_NCK.shape
        if self.actions_NC.shape[:2] != (rows, steps - 1) or self.games_N.shape != (rows,):
            raise ValueError(
                f"Context of {rows} rows and {steps} steps needs actions ({rows}, {steps - 1}) and games ({rows},), "
                f"not {tuple(self.actions_NC.shape)} and {tuple(self.games_N.shape)}"
            )

    def last(self, steps: int) -> "Context":
        """The newest `steps` of it, or all where there are fewer."""
        drop = max(0, self.tokens_NCK.shape[1] - steps)
        return Context(self.tokens_NCK[:, drop:], self.actions_NC[:, drop:], self.games_N)


@dataclass(frozen=True)
class Imagined:
    """Where N rows stand: at a real observation after `reset`, at an imagined one after `step`."""

    values_NA: Tensor  # float32, expected return of each action here; (N, 0) where the family values no actions
    rewards_N: Tensor  # float32, of the step that led here, in {-1, 0, 1}; 0 after reset
    ends_N: Tensor  # bool, whether that step ended the game; False after reset
    tokens_NK: Tensor  # long, the newest observation
    states_N: Tensor | None = (
        None  # float32, what the state itself is worth; None where the family learned no such value
    )
    expected_N: Tensor | None = (
        None  # float32 in [-1, 1], the mean of the sign that `rewards_N` is the likeliest of; None: not told
    )


class WorldModel(Protocol):
    """A model of the game that can be played inside.

    From `reset` on it holds a tree for each of N environments: node 0 is the real present, every step adds nodes. Rows
    of a step are M = N * R, environment after environment, as many in each.
    """

    def reset(self, context: Context) -> Imagined:
        """reset(context of N environments) -> Imagined: forget, read the context, stand at its newest observation"""
        ...

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """step(actions (M,) long or (M, A) float, parents (M,) long) -> Imagined: one step further from each parent.

        Parents are nodes of the row's own environment, numbered in order of creation; where not given, the newest ones.
        """
        ...


@dataclass(frozen=True)
class Remembered:
    """What a dream's memory holds after its newest step, and what that step cost.

    steps: of the game, with the one in sight. most: how many fit; 0 where nothing is ever forgotten by force. forgot:
    how there came to be room for the newest step: "slide" dropped the oldest one, "flush" all but the one before it
    or the few that the family keeps, "" nothing. passes: runs of the network that the newest step took, or the
    context's last one after `reset`.
    """

    steps: int
    most: int
    forgot: str
    passes: int


class Dream(WorldModel, Protocol):
    """A world model that is played on and on: it makes room for the next step as its family does.

    `step` goes on from the newest step; `parents_M` is of no use here.
    """

    @property
    def remembered(self) -> Remembered:
        """Of the newest step, or of the context after `reset`."""
        ...


@runtime_checkable
class TellsChanges(Protocol):
    """An agent whose tokens tell what changed between two frames, and not what one shows."""

    def retell(self, before: Tensor, actions_P: Tensor, after: Tensor) -> tuple[Tensor, Tensor, int]:
        """retell(frames (P, C, H, W) uint8, actions (P,), the next frames) -> tokens (P, K), the next frames as drawn
        of these (P, C, H, W) in [0, 1], and how many different tokens there are
        """
        ...


@runtime_checkable
class Foresees(Protocol):
    """An agent that draws how a video goes on of which it was shown the beginning."""

    def foresee(self, frames: Tensor, seen: int) -> Tensor:
        """foresee(frames (B, T, C, H, W) uint8, seen) -> frames (B, T, C, H, W) in [0, 1]

        The first `seen` are drawn of what was seen of them. What else it is told, such as a sketch of what changed from
        one frame to the next, the family says.
        """
        ...


@runtime_checkable
class TakesOver(Protocol):
    """An agent whose world model goes on from one that learned videos."""

    def take_over(self, other: Any) -> None:
        """take_over(an agent of the same family) -> None; ValueError where its networks are of other sizes"""
        ...


class Planner(Protocol):
    """Chooses actions by searching inside a world model; `horizon` steps of it must fit behind the context."""

    @property
    def horizon(self) -> int: ...

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """plan(world, context, legal actions (N, A) bool, discount) -> actions (N,) long, legal ones only"""
        ...


@dataclass(frozen=True)
class Graph:
    """A function of tensors alone, for runtimes that know no Python: its module, an example of its inputs, the names of
    both ends, and by input those axes that have no fixed size."""

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    growing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@runtime_checkable
class Portable(Protocol):
    """An agent whose likeliest dream can be played elsewhere.

    Its graphs are "read" (tokens (1, L) of a context, actions between frames -> q (1, A), keys, values), "step" (action
    (1,), past_keys, past_values -> observation (1, K), reward (1,), end (1,), q, keys, values), where keys and values
    have their tokens on axis 3, and "decode" (observation (1, K) -> frame (1, C, H, W) in [0, 1]). Integers are long.
    """

    def graphs(self, game: int) -> Mapping[str, Graph]:
        """graphs(game) -> its graphs by name, of copies of the networks in eval mode and float32"""
        ...

    @property
    def window(self) -> int:
        """Steps that are remembered; where there are so many, all but the oldest are read anew before a step."""
        ...
