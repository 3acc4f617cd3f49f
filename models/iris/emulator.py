"""The game itself in place of a world model: what an actor-critic reaches when nothing it practises in is wrong.

An oracle for measurements, of the IRIS thesis ("dummy world model"). The games go on from where they stand: a real game
cannot be put where a recorded frame was. An episode that ends begins anew by itself, and the frame after its end is the
next one's first. The original began every rollout with a frame that the games did not show; here it begins with theirs.

Shapes: N rows, as many as games; K tokens a frame; C channels of H x W pixels.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.iris.draws import Draw
from models.iris.world import Step


class Seen(Protocol):
    """What one step of all games gave."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """(N, H, W) or (N, H, W, C)"""
        ...

    @property
    def rewards(self) -> NDArray[np.float32]:
        """(N,) the games' own points"""
        ...

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """(N,) the game was over"""
        ...


class Games(Protocol):
    """N games that are played at once; `pipelines.environments` has them."""

    def reset(self) -> NDArray[np.uint8]:
        """reset() -> first frames (N, H, W) or (N, H, W, C) of fresh episodes"""
        ...

    def step(self, actions_N: NDArray[Any]) -> Any:
        """step(actions (N,)) -> `Seen`; an episode that ends begins anew"""
        ...


class EmulatorPlayer:
    """Real games as a `models.iris.world.Player`. `encode`: uint8 frames (N, C, H, W) -> tokens (N, K)."""

    def __init__(self, games: Games, encode: Callable[[Tensor], Tensor]) -> None:
        self._games, self._encode = games, encode
        self._frames = games.reset()

    def seen(self) -> Tensor:
        """Tokens (N, K) of where the games stand: what a rollout begins with."""
        return self._encode(_channels_first(self._frames))

    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`; the games go on from where they stand. Raises ValueError for another number of rows."""
        if len(tokens_NK) != len(self._frames):
            raise ValueError(f"{len(tokens_NK)} rows cannot be played in {len(self._frames)} games: give one to each")

    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `Player`. Nothing is drawn: the games do."""
        gave: Seen = self._games.step(actions_N.cpu().numpy())
        self._frames = gave.frames
        rewards_N, ends_N = (torch.as_tensor(each, device=actions_N.device) for each in (gave.rewards, gave.terminated))
        return Step(rewards_N.float().sign(), ends_N.bool(), self.seen() if observe else None)


def _channels_first(frames: NDArray[np.uint8]) -> Tensor:
    """(N, C, H, W)"""
    return torch.from_numpy(frames).unsqueeze(1) if frames.ndim == 3 else torch.from_numpy(frames).permute(0, 3, 1, 2)
