"""What every model family speaks: batches in, losses out; world models that imagine; policies that act.

Shapes: B segments, T steps, H x W pixels, K tokens a frame, N environments or imagined rows, C steps of context,
A actions of the full 18-action set, R nodes of an environment, M = N * R rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Segments as a network eats them. Frames, tokens or both are present; rows where `mask_BT` is False are padding.

    Raises ValueError where a shape disagrees with that of `actions_BT`.
    """

    actions_BT: Tensor  # long, in the 18-action set
    rewards_BT: Tensor  # float
    ends_BT: Tensor  # bool or integer: a true end of the game, not a truncation
    mask_BT: Tensor  # bool, True is a real step
    games_B: Tensor  # long
    frames_uint8_BTHW: Tensor | None = None
    tokens_BTK: Tensor | None = None  # long
    imagined_B: Tensor | None = None  # bool, True where a model dreamt the segment's end; None: all are real

    def __post_init__(self) -> None:
        shape = self.actions_BT.shape
        if len(shape) != 2:
            raise ValueError(f"actions_BT has shape {tuple(shape)}: give (segments, steps)")
        for name in ("rewards_BT", "ends_BT", "mask_BT", "tokens_BTK", "frames_uint8_BTHW"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape[:2] != shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}: it must begin with {tuple(shape)}")
        if self.games_B.shape != shape[:1]:
            raise ValueError(f"games_B has shape {tuple(self.games_B.shape)}: it must be ({shape[0]},)")
        if self.imagined_B is not None and (self.imagined_B.shape != shape[:1] or self.imagined_B.dtype != torch.bool):
            raise ValueError(
                f"imagined_B is {self.imagined_B.dtype} of {tuple(self.imagined_B.shape)}: give bool ({shape[0]},)"
            )
        if self.mask_BT.dtype != torch.bool:
            raise ValueError(f"mask_BT is {self.mask_BT.dtype}: it must be bool, True for a real step")

    def real_mask(self) -> Tensor:
        """Real steps (B, T) of segments that no model dreamt: what a world model may learn from."""
        return self.mask_BT if self.imagined_B is None else self.mask_BT & ~self.imagined_B[:, None]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        present = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: tensor.to(device) for name, tensor in present.items() if tensor is not None})


def mixed(real: Batch, imagined: Batch) -> Batch:
    """Real segments, then imagined ones, marked so. Frames or tokens must be present in both, or they are left out.

    Raises ValueError where neither is, or where the segments differ in length.
    """
    parts = (
        replace(real, imagined_B=torch.zeros_like(real.games_B, dtype=torch.bool)),
        replace(imagined, imagined_B=torch.ones_like(imagined.games_B, dtype=torch.bool)),
    )
    pairs = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Batch)}
    if real.actions_BT.shape[1:] != imagined.actions_BT.shape[1:]:
        raise ValueError(f"Segments of {real.actions_BT.shape[1]} and {imagined.actions_BT.shape[1]} steps do not mix")
    joined = {name: torch.cat(pair) for name, pair in pairs.items() if all(tensor is not None for tensor in pair)}
    if not joined.keys() & {"frames_uint8_BTHW", "tokens_BTK"}:
        raise ValueError("One batch has frames and the other tokens: encode the frames first")
    return Batch(**joined)


@dataclass(frozen=True)
class Losses:
    """`total` is what to differentiate. `terms` are detached scalars to log, each before its weight in the total."""

    total: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class Context:
    """The newest C steps of N rows: every frame's tokens, and the actions between them (one fewer).

    Raises ValueError where the shapes disagree.
    """

    tokens_NCK: Tensor  # long
    actions_NC: Tensor  # long, (N, C - 1)
    games_N: Tensor  # long

    def __post_init__(self) -> None:
        if self.tokens_NCK.ndim != 3 or self.tokens_NCK.shape[1] < 1:
            raise ValueError(
                f"Context tokens have shape {tuple(self.tokens_NCK.shape)}: give (rows, steps >= 1, tokens)"
            )
        rows, steps, _ = self.tokens_NCK.shape
        if self.actions_NC.shape != (rows, steps - 1) or self.games_N.shape != (rows,):
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

    values_NA: Tensor  # float32, expected return of each action here
    rewards_N: Tensor  # float32, of the step that led here, in {-1, 0, 1}; 0 after reset
    ends_N: Tensor  # bool, whether that step ended the game; False after reset
    tokens_NK: Tensor  # long, the newest observation


class WorldModel(Protocol):
    """A model of the game that can be trained and played inside.

    From `reset` on it holds a tree for each of N environments: node 0 is the real present, every step adds nodes. Rows
    of a step are M = N * R, environment after environment, as many in each.
    """

    def loss(self, batch: Batch) -> Losses:
        """loss(batch) -> Losses"""
        ...

    def reset(self, context: Context) -> Imagined:
        """reset(context of N environments) -> Imagined: forget, read the context, stand at its newest observation"""
        ...

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """step(actions (M,) long, parents (M,) long) -> Imagined: one step further from each parent.

        Parents are nodes of the row's own environment, numbered in order of creation; where not given, the newest ones.
        """
        ...


class Planner(Protocol):
    """Chooses actions by searching inside a world model; `horizon` steps of it must fit behind the context."""

    @property
    def horizon(self) -> int: ...

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """plan(world, context, legal actions (N, A) bool, discount) -> actions (N,) long, legal ones only"""
        ...


class Policy(Protocol):
    """Plays N environments at once."""

    def act(self, frames: Tensor) -> Tensor:
        """act(frames (N, H, W) uint8) -> actions (N,) long in the 18-action set"""
        ...

    def reset(self, rows: Sequence[int]) -> None:
        """reset(rows) -> None: those environments begin a new episode"""
        ...
