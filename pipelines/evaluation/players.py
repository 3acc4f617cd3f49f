"""Players: a checkpoint, and chance. Both draw from each episode's own seed, whoever else plays."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import Acting, Agent, Planner
from models.planning.beam import Beam, Greedy
from models.planning.gumbel import Gumbel
from models.planning.mcts import Mcts
from models.planning.rollouts import Rollouts
from models.spaces import Box
from pipelines.environments.actions import legal_mask
from pipelines.environments.registry import actions, game_id
from pipelines.evaluation.player_settings import ACTOR, PlayerSettings


def planner(settings: PlayerSettings) -> Planner:
    """The planner of these settings."""
    search = settings.search
    match settings.planner:
        case "greedy" | "actor":
            return Greedy()
        case "beam":
            return Beam(settings.width, settings.horizon, search.leaf, search.gain)
        case "rollouts":
            return Rollouts(settings.width, settings.horizon, search.leaf, search.gain, search.hold)
        case _:
            tree = Gumbel if settings.planner == "gumbel" else Mcts
            return tree(
                search.simulations or None,
                settings.width,
                settings.horizon,
                search.temperature,
                search.leaf,
                search.choice,
                resample=search.sample,
                gain=search.gain,
            )


class AgentPlayer:
    """A checkpoint with a planner, in one environment for each of `games`; those that play are planned together.

    Environments of different games may share it: each has its own task and its own legal actions. Who is planned
    beside whom changes no choice but by rounding. It runs on the agent's device, each decision inside the context
    that `piece` opens. The networks are put in eval mode. `compiled` is a backend of torch.compile for what is
    imagined.
    """

    def __init__(
        self,
        settings: PlayerSettings,
        games: Sequence[str],
        agent: Agent,
        piece: Callable[[], AbstractContextManager[None]] = nullcontext,
        compiled: str = "",
    ) -> None:
        network = next(iter(agent.networks.values()))
        self._device, self._piece = next(network.parameters()).device, piece
        search = settings.search
        acting = Acting(
            games_N=torch.tensor([game_id(game) for game in games], device=self._device),
            legal_NA=torch.as_tensor(np.stack([legal_mask(game) for game in games])).to(self._device),
            planner=planner(settings),
            context=settings.context,
            epsilon=settings.epsilon,
            temperature=search.temperature if settings.planner == ACTOR else 0.0,
            sample=search.sample,
            compiled=compiled,
        )
        self._policy = agent.policy(acting)

    def begin(self, row: int, seed: int) -> None:
        """See `rollout.Player`."""
        self._policy.begin([row], [seed])

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.integer]:
        """See `rollout.Player`."""
        with torch.inference_mode(), self._piece():
            return self._policy.act(channels_first(frames).to(self._device), rows).cpu().numpy()

    def act_on_tokens(self, tokens_NK: Tensor, rows: Sequence[int]) -> NDArray[np.integer]:
        """Actions (N,) at what a world model imagined, on the agent's device."""
        with torch.inference_mode(), self._piece():
            return self._policy.act_on_tokens(tokens_NK, rows).cpu().numpy()

    def recall(self, row: int, frames: NDArray[np.uint8], actions: NDArray[np.integer]) -> None:
        """After `begin`: go on behind these steps, frames (T, H, W) or (T, H, W, 3) and the actions (T,) taken then."""
        taken = torch.as_tensor(actions)
        taken = taken if taken.is_floating_point() else taken.long()
        with torch.inference_mode(), self._piece():
            self._policy.recall(row, channels_first(frames).to(self._device), taken.to(self._device))

    def values(self, row: int) -> tuple[NDArray[np.float32], str]:
        """(A,) what it thinks of each action at the newest frame that it acted on, and what these are, as "Q"."""
        with torch.inference_mode(), self._piece():
            found = self._policy.values(row)
            return found.values_A.float().cpu().numpy(), found.kind


def channels_first(frames: NDArray[np.uint8]) -> Tensor:
    """(N, C, H, W) uint8 of frames (N, H, W), or (N, H, W, C) of colours."""
    pictures = torch.as_tensor(frames)
    return pictures[:, None] if pictures.ndim == 3 else pictures.movedim(-1, 1)


class RandomPlayer:
    """Any legal action of the game, each as likely; where an action is numbers, each of them uniform in its range."""

    def __init__(self, game: str) -> None:
        self._legal, self._game, self._space = np.flatnonzero(legal_mask(game)), game_id(game), actions(game)
        self._draws: dict[int, np.random.Generator] = {}

    def begin(self, row: int, seed: int) -> None:
        """See `rollout.Player`."""
        self._draws[row] = np.random.default_rng([seed, self._game])

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[Any]:
        """See `rollout.Player`."""
        draws, space = [self._draws[row] for row in rows], self._space
        if isinstance(space, Box):
            return np.stack([each.uniform(space.low, space.high, space.size) for each in draws]).astype(np.float32)
        return np.array([each.choice(self._legal) for each in draws])
