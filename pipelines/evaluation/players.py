"""Players: a checkpoint, and chance. Both draw from each episode's own seed, whoever else plays."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from models.jowa.model import Jowa
from models.jowa.policy import Encoder, JowaPolicy
from pipelines.environments.registry import game_id, legal_mask
from pipelines.evaluation.player_settings import Entrant


class AgentPlayer:
    """A checkpoint with a planner, in one environment for each of `games`; those that play are planned together.

    Environments of different games may share it: each has its own task and its own legal actions. Who is planned
    beside whom changes no choice but by rounding. Measured on a CPU: JOWA-40M's values of a row in a batch of 1 to 3
    rows differ by 2e-6 from those in larger ones, and by nothing among larger ones or in bf16. It runs on the model's
    device, inside the context that `autocast` opens. The model is put in eval mode. `compiled` is a backend of
    torch.compile for what it imagines; see `JowaPolicy`.
    """

    def __init__(
        self,
        entrant: Entrant,
        games: Sequence[str],
        model: Jowa,
        tokenizer: Encoder,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
        compiled: str = "",
    ) -> None:
        self._device, self._autocast = next(model.parameters()).device, autocast
        self._policy = JowaPolicy(
            model,
            tokenizer,
            torch.tensor([game_id(game) for game in games], device=self._device),
            torch.as_tensor(np.stack([legal_mask(game) for game in games])).to(self._device),
            context=entrant.context,
            epsilon=entrant.epsilon,
            planner=entrant.build(),
            sample=entrant.search.sample,
            compiled=compiled,
        )

    def begin(self, row: int, seed: int) -> None:
        """See `rollout.Player`."""
        self._policy.reset([row], [seed])

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.integer]:
        """See `rollout.Player`."""
        with torch.inference_mode(), self._autocast():
            return self._policy.act(torch.as_tensor(frames).to(self._device), rows).cpu().numpy()


class RandomPlayer:
    """Any legal action of the game, each as likely."""

    def __init__(self, game: str) -> None:
        self._legal, self._game = np.flatnonzero(legal_mask(game)), game_id(game)
        self._draws: dict[int, np.random.Generator] = {}

    def begin(self, row: int, seed: int) -> None:
        """See `rollout.Player`."""
        self._draws[row] = np.random.default_rng([seed, self._game])

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.integer]:
        """See `rollout.Player`."""
        return np.array([self._draws[row].choice(self._legal) for row in rows])
