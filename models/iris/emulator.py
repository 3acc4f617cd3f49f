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

from models.practice.draws import Draw
from models.practice.world import Step


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

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """(N,) the rules cut the episode"""
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
    """Real games as a `models.practice.world.Player`.

    encode: uint8 frames (N, C, H, W) -> tokens (N, K). theirs: numbers of actions, ours -> the games'. device: where
    frames are encoded.
    """

    def __init__(
        self,
        games: Games,
        encode: Callable[[Tensor], Tensor],
        theirs: Callable[[Tensor], Tensor] = lambda actions: actions,
        device: torch.device | str = "cpu",
    ) -> None:
        self._games, self._encode, self._theirs, self._device = games, encode, theirs, device
        # Frames before this one, and which rows of them are of the episode that is being played.
        self._past: list[NDArray[np.uint8]] = []
        self._of_episode: list[Tensor] = []
        self._frames = games.reset()

    def seen(self) -> Tensor:
        """Tokens (N, K) of where the games stand: what a rollout begins with."""
        return self._tokens(self._frames)

    def recent(self, steps: int) -> tuple[Tensor, Tensor]:
        """Tokens (N, steps, K) of the newest frames, the last of which is `seen`; and which of them (N, steps) are of
        the episode that is being played. Older frames than were asked for are forgotten.
        """
        before = steps - 1
        kept = max(0, len(self._past) - before)
        self._past, self._of_episode = self._past[kept:], self._of_episode[kept:]
        now_N = torch.ones(len(self._frames), dtype=torch.bool, device=self._device)
        here_NK, missing = self.seen(), before - len(self._past)
        tokens = [torch.zeros_like(here_NK)] * missing + [self._tokens(frames) for frames in self._past] + [here_NK]
        mask = [torch.zeros_like(now_N)] * missing + [*self._of_episode, now_N]
        return torch.stack(tokens, dim=1), torch.stack(mask, dim=1)

    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`; the games go on from where they stand. Raises ValueError for another number of rows."""
        if len(tokens_NK) != len(self._frames):
            raise ValueError(f"{len(tokens_NK)} rows cannot be played in {len(self._frames)} games: give one to each")

    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `Player`. Nothing is drawn: the games do. An episode that the rules cut ends too."""
        gave: Seen = self._games.step(self._theirs(actions_N).cpu().numpy())
        rewards_N, over_N, cut_N = (
            torch.as_tensor(each, device=self._device) for each in (gave.rewards, gave.terminated, gave.truncated)
        )
        ended_N = over_N.bool() | cut_N.bool()
        self._past.append(self._frames)
        self._of_episode = [before_N & ~ended_N for before_N in (*self._of_episode, torch.ones_like(ended_N))]
        self._frames = gave.frames
        return Step(rewards_N.float().sign(), ended_N, self.seen() if observe else None)

    def _tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        shown = torch.from_numpy(frames).to(self._device)
        return self._encode(shown.unsqueeze(1) if shown.ndim == 3 else shown.permute(0, 3, 1, 2))
