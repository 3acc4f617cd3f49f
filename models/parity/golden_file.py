"""What all golden files have in common: entries by name, of which `meta/*` says how the others were made.

`meta/family` names the family, `meta/config` is JSON with all numbers of the recording. Entries under `weights/`,
`batch/` and `draws/` are inputs too; every other entry is an output, which can be had from the inputs alone.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.api import Batch

INPUTS = ("weights/", "batch/", "draws/")
META = "meta/"


@dataclass(frozen=True)
class Tolerance:
    """The largest difference: `relative` times the entry's largest number, and `absolute`, one for each if several.

    nan_means_none: NaN stands for what there is none of; it must stand at the same places.
    """

    relative: float = 0.0
    absolute: float | tuple[float, ...] | np.ndarray = 0.0
    nan_means_none: bool = False

    def allowed(self, scale: float) -> np.ndarray:
        """Of every number of an entry whose largest is `scale`."""
        return self.relative * scale + np.asarray(self.absolute)


class GoldenFile:
    """The arrays of a file; `read` collects the names of all inputs that were asked for.

    Raises ValueError where the file does not state its family or its config.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.read = {name for name in arrays if name.startswith(META)}
        self.family = self._text("meta/family")
        self.config = self.stated("meta/config")

    def tensor(self, name: str) -> Tensor:
        """A copy of an input as float32, int64, uint8 or bool. Raises ValueError where it is missing or no numbers."""
        if not name.startswith(INPUTS):
            raise ValueError(f"{name} is an output: compute it from the inputs ({', '.join(INPUTS)})")
        if name not in self.arrays:
            raise ValueError(f"input {name} is missing")
        array = self.arrays[name]
        if array.dtype.kind not in "biuf":
            raise ValueError(f"input {name} holds {array.dtype}, no numbers")
        self.read.add(name)
        tensor = torch.from_numpy(np.array(array))
        if tensor.is_floating_point():
            return tensor.float()
        return tensor if tensor.dtype in (torch.bool, torch.uint8) else tensor.long()

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All inputs whose names begin so, by the rest of their names. Raises ValueError as `tensor`."""
        return {name.removeprefix(prefix): self.tensor(name) for name in list(self.arrays) if name.startswith(prefix)}

    def classes(self, name: str, shape: tuple[int, ...], count: int) -> Tensor:
        """An input (shape) of classes below `count`, such as draws. Raises ValueError for others, and as `tensor`."""
        found = self.tensor(name)
        if tuple(found.shape) != shape:
            raise ValueError(f"input {name} is {tuple(found.shape)}, and {shape} fits what the file states")
        if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < count:
            raise ValueError(f"input {name} holds {int(found.min())} to {int(found.max())}, and there are {count}")
        return found.long()

    def frames(self, name: str) -> Tensor:
        """Recorded frames (..., C, H, W) as floats in [0, 1]. Raises ValueError as `tensor`."""
        return self.tensor(name).float() / 255

    def segments(self, network: str, encode: Callable[[Tensor], Tensor] | None = None) -> Batch:
        """A network's recorded segments, with their frames or the tokens that `encode` makes of these.

        Raises ValueError as `tensor`.
        """
        names = ("actions", "rewards", "ends", "mask_padding", "observations")
        actions, rewards, ends, mask, frames = (self.tensor(f"batch/{network}/{name}") for name in names)
        return Batch(
            actions_BT=actions,
            rewards_BT=rewards,
            ends_BT=ends,
            mask_BT=mask,
            games_B=actions.new_zeros(len(actions)),
            tokens_BTK=None if encode is None else encode(frames),
            frames_BTCHW=frames if encode is None else None,
        )

    def _text(self, name: str) -> str:
        if name not in self.arrays or self.arrays[name].dtype.kind != "U" or self.arrays[name].ndim:
            raise ValueError(f"{name} is missing or no text")
        return str(self.arrays[name])

    def stated(self, name: str) -> dict[str, Any]:
        """An object that an entry states. Raises ValueError where it is missing or none."""
        try:
            content = json.loads(self._text(name))
        except json.JSONDecodeError as error:
            raise ValueError(f"{name} is no JSON: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{name} is no JSON object")
        return content


def renamed(stated: Mapping[str, Any], names: Mapping[str, str], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a config under our names; lists become tuples.

    names: ours by theirs, where `a.b` is entry b of section a. fixed: entries for which this project has one value
    alone, by theirs. Raises ValueError for an entry that is missing, that neither table has, or that differs from
    its fixed value.
    """
    flat = dict(_flattened(stated))
    if unknown := sorted(flat.keys() - names.keys() - fixed.keys()):
        raise ValueError(f"meta/config states '{unknown[0]}', which is not known here")
    if missing := sorted((names.keys() | fixed.keys()) - flat.keys()):
        raise ValueError(f"meta/config does not state '{missing[0]}'")
    for name, value in fixed.items():
        if flat[name] != value:
            raise ValueError(f"meta/config states {name} = {flat[name]}, where this project has {value} alone")
    return {ours: flat[theirs] for theirs, ours in names.items()}


def _flattened(stated: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in stated.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, tuple(value) if isinstance(value, list) else value
