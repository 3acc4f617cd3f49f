"""A bounded store of imagined segments, to mix into training: the newest ones stay, draws follow a seed.

Memory: a segment of 8 steps holds 56 kB of frames and 2 kB of tokens.
"""

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor

from models.api import Batch


class Dreams:
    """The newest `capacity` segments, on the CPU. Raises ValueError for a capacity below 1."""

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
        """All that another `Dreams` of this capacity needs to go on alike."""
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
