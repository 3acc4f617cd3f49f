"""Names and shapes of a whole checkpoint's tensors, from which a family reads its sizes. Imports no torch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from models.practice.config import PlayedConfig

Shape = tuple[int, ...]
Config = TypeVar("Config", bound=PlayedConfig)


def require_networks(shapes: Mapping[str, Shape], networks: Sequence[str], kind: str) -> None:
    """Raises ValueError for a name that belongs to none of the networks."""
    if strangers := [name for name in shapes if name.partition(".")[0] not in networks]:
        raise ValueError(
            f"it holds '{strangers[0]}', which belongs to none of {', '.join(networks)}: give the state_dict of a "
            f"whole {kind}, each network's names behind its own"
        )


def with_networks(config: Config, tokenizer: Any, world_model: Any, actor_critic: Any, **others: Any) -> Config:
    """`config` with networks of these sizes, which know all actions; frames are resized where the networks see less.

    Raises ValueError where sizes do not fit each other.
    """
    networks = {"tokenizer": tokenizer, "world_model": world_model, "actor_critic": actor_critic}
    made = replace(config, actions=(), frame=(*config.frame[:2], tokenizer.frame_channels), **networks, **others)
    made.require_fit(world_model.max_steps)
    return made


class Shapes:
    """Shapes by name; what is asked for and missing is an error that names it."""

    def __init__(self, shapes: Mapping[str, Shape], kind: str) -> None:
        self._shapes, self._kind = shapes, kind

    def of(self, name: str, axes: int) -> Shape:
        """The shape of a tensor of that many axes, none of which is empty."""
        if name not in self._shapes:
            raise ValueError(f"it lacks '{name}', which every {self._kind} has: give the state_dict of a whole agent")
        shape = tuple(self._shapes[name])
        if len(shape) != axes or 0 in shape:
            raise ValueError(
                f"it holds '{name}' of shape {shape}, which has {axes} axes in an {self._kind}: give another file"
            )
        return shape

    def first(self, pattern: str) -> str:
        """The first name that begins so; empty where there is none."""
        return next((name for name in self._shapes if re.match(pattern, name)), "")

    def count(self, pattern: str) -> int:
        """How many there are of what is numbered in the names: one more than the highest number."""
        numbers = (int(found[1]) for name in self._shapes if (found := re.match(pattern, name)))
        return max(numbers, default=-1) + 1
