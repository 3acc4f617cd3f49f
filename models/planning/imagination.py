"""Imagined data to train Q on: segments whose ends a beam search imagines, and a buffer of them (arXiv 2410.00564).

The original keeps the frames of the T - H newest steps but the actions and rewards of one step later, so that each
stands one step too early, as its recordings show. Here every action stands with the frame in which it was taken.

Shapes: B segments, T steps, H horizon, K tokens a frame, A actions.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import torch
from torch import Tensor

from models.api import Batch, Context, WorldModel
from models.planning.beam import Beam, search


def imaginable(batch: Batch, horizon: int) -> Tensor:
    """Which segments (B,) bool have nothing but real steps in the T - H newest, which the search starts from."""
    return batch.mask_BT[:, horizon:].all(1)


def imagine(
    world: WorldModel,
    batch: Batch,
    legal_BA: Tensor,
    beam: Beam,
    gamma: float,
    decode: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """The T - H newest steps of each segment, then the H observations of the best path from there.

    With `decode`, a tokenizer's from tokens (..., K) to frames (..., C, H, W) in [0, 1], and where the batch has
    frames, the result has them too: the real ones, then the imagined ones as uint8. Without, it has tokens only.
    The newest real step's action and reward become the plan's first ones. The last imagined step has no successor and
    repeats the action and reward before it. No step ends the game, none is padding, all segments count as imagined.
    Raises ValueError for a batch without tokens, segments no longer than the horizon, or one that is not `imaginable`.
    """
    steps, horizon = batch.actions_BT.shape[1], beam.horizon
    if batch.tokens_BTK is None:
        raise ValueError("Imagined data starts from tokens: encode the batch's frames first")
    if steps <= horizon or not bool(imaginable(batch, horizon).all()):
        raise ValueError(
            f"Segments of {steps} steps cannot be imagined {horizon} steps further: "
            f"their {max(0, steps - horizon)} newest steps, at least one, must be real"
        )
    context = Context(batch.tokens_BTK[:, horizon:], batch.actions_BT[:, horizon:-1], batch.games_B)
    path = search(world, context, legal_BA, beam, gamma)
    actions_BT = torch.cat([context.actions_NC, path.actions_NH, path.actions_NH[:, -1:]], dim=1)
    rewards = (batch.rewards_BT[:, horizon:-1], path.rewards_NH, path.rewards_NH[:, -1:])
    frames = None
    if decode is not None and batch.frames_BTCHW is not None:
        imagined_BHCHW = (decode(path.tokens_NHK) * 255).round().clamp(0, 255).to(torch.uint8)
        frames = torch.cat([batch.frames_BTCHW[:, horizon:], imagined_BHCHW], dim=1)
    return replace(
        batch,
        tokens_BTK=torch.cat([context.tokens_NCK, path.tokens_NHK], dim=1),
        frames_BTCHW=frames,
        actions_BT=actions_BT,
        rewards_BT=torch.cat([reward.to(batch.rewards_BT.dtype) for reward in rewards], dim=1),
        ends_BT=torch.zeros_like(batch.ends_BT),
        mask_BT=torch.ones_like(batch.mask_BT),
        imagined_B=torch.ones_like(batch.games_B, dtype=torch.bool),
    )


class ImaginedBuffer:
    """The newest `capacity` imagined segments, on the CPU; `seed` fixes the draws.

    Memory: a segment of 8 steps holds 56 kB of frames and 2 kB of tokens. Raises ValueError for a capacity below 1.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"Room for {capacity} imagined segments: give at least 1")
        self.capacity = capacity
        self.added = 0  # segments so far, those that made room included
        self._generator = torch.Generator().manual_seed(seed)
        self._rows: dict[str, Tensor] = {}  # name of a batch's field -> (capacity, ...)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, batch: Batch) -> None:
        """Keep these segments. Raises ValueError where they have other fields, shapes or types than those before."""
        new = {field.name: getattr(batch, field.name) for field in fields(batch)}
        new = {name: tensor.cpu() for name, tensor in new.items() if tensor is not None}
        if not self._rows:
            self._rows = {
                name: torch.zeros(self.capacity, *tensor.shape[1:], dtype=tensor.dtype) for name, tensor in new.items()
            }
        ours, theirs = ({n: (t.dtype, t.shape[1:]) for n, t in rows.items()} for rows in (self._rows, new))
        if ours != theirs:
            raise ValueError(f"Imagined segments of {theirs} do not fit among segments of {ours}")
        count = len(batch.games_B)
        places = (self.added + torch.arange(count)) % self.capacity
        newest = slice(max(0, count - self.capacity), None)
        for name, tensor in new.items():
            self._rows[name][places[newest]] = tensor[newest]
        self.added += count

    def sample(self, count: int) -> Batch:
        """`count` segments, each drawn from all with equal chance. Raises ValueError while there are none."""
        if not len(self):
            raise ValueError("No segments were imagined yet: add some before drawing")
        rows = torch.randint(len(self), (count,), generator=self._generator)
        return Batch(**{name: tensor[rows] for name, tensor in self._rows.items()})

    def state(self) -> dict[str, Tensor]:
        """All that another buffer of this capacity needs to go on alike."""
        kept = {f"rows.{name}": tensor[: len(self)] for name, tensor in self._rows.items()}
        return {**kept, "added": torch.tensor(self.added), "generator": self._generator.get_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`. Raises ValueError for that of another capacity."""
        added, rows = int(state["added"]), {n.removeprefix("rows."): t for n, t in state.items() if "rows." in n}
        held = {len(tensor) for tensor in rows.values()}
        if held - {min(added, self.capacity)}:
            raise ValueError(f"This state holds {held} segments of {added}: it is not of capacity {self.capacity}")
        self.added = added
        self._rows = {name: t.new_zeros(self.capacity, *t.shape[1:]) for name, t in rows.items()}
        for name, tensor in rows.items():
            self._rows[name][: len(tensor)] = tensor
        self._generator.set_state(state["generator"])
