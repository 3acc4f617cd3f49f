"""Acting with JOWA in many environments at once: greedily, by beam search or by tree search.

Shapes: N environments, C steps of context, K tokens a frame, H x W pixels, A actions.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from models.api import Context, Planner
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.greedy import Greedy
from models.planning.values import masked_values


class Encoder(Protocol):
    """What a policy needs of a tokenizer."""

    def encode_tokens(self, frames: Tensor) -> Tensor:
        """encode_tokens(frames (N, H, W) uint8) -> tokens (N, K) long"""
        ...


class JowaPolicy:
    """Remembers the newest steps of each environment and plays the best legal action.

    games_N: long. legal_NA: bool, each environment's legal actions. planner: Greedy if None, or a Beam or Mcts.
    context: how many steps to look at, in 1..max_steps (all if None), shortened to max_steps - the planner's horizon.
    With `sample` what is imagined is drawn instead of the most likely. With probability `epsilon` an environment plays
    a random legal action instead. Both draw from `seed`. The model is put in eval mode.
    Raises ValueError where a shape or number does not fit.
    """

    def __init__(
        self,
        model: Jowa,
        tokenizer: Encoder,
        games_N: Tensor,
        legal_NA: Tensor,
        *,
        context: int | None = None,
        epsilon: float = 0.0,
        planner: Planner | None = None,
        sample: bool = False,
        seed: int = 0,
    ) -> None:
        config, rows = model.config, len(games_N)
        self.planner = Greedy() if planner is None else planner
        longest = config.max_steps - self.planner.horizon
        context = config.max_steps if context is None else context
        if not 1 <= context <= config.max_steps or longest < 1:
            raise ValueError(
                f"Context of {context} steps with {self.planner}: it must lie in 1..{config.max_steps}, "
                f"and a planner's horizon below {config.max_steps}"
            )
        if not 0 <= epsilon <= 1:
            raise ValueError(f"Epsilon {epsilon} is no probability: give 0 to 1")
        masked_values(torch.zeros(rows, config.num_actions, device=legal_NA.device), legal_NA)  # checks the mask
        self.model, self.tokenizer, self.epsilon = model.eval(), tokenizer, epsilon
        self.games_N, self.legal_NA = games_N, legal_NA
        self.context = min(context, longest)
        device = games_N.device
        self._world = JowaWorld(model, torch.Generator(device).manual_seed(seed) if sample else None)
        self._generator = torch.Generator().manual_seed(seed)
        # Right-aligned: the newest step is last. The newest action is unknown until act() has chosen it.
        shape = (rows, self.context, config.tokens_per_frame)
        self._tokens_NCK = torch.zeros(shape, dtype=torch.long, device=device)
        self._actions_NC = torch.zeros(shape[:2], dtype=torch.long, device=device)
        self._seen = [0] * rows

    def reset(self, rows: Sequence[int]) -> None:
        """These environments begin a new episode: forget what they saw."""
        for row in rows:
            self._seen[row] = 0

    def act(self, frames: Tensor) -> Tensor:
        """Actions (N,) long for the environments' newest frames (N, H, W) uint8."""
        return self.act_on_tokens(self.tokenizer.encode_tokens(frames))

    def act_on_tokens(self, tokens_NK: Tensor) -> Tensor:
        """Actions (N,) long for the newest frames' tokens (N, K) long. Raises ValueError for another shape."""
        expected = (self._tokens_NCK.shape[0], self._tokens_NCK.shape[2])
        if tokens_NK.shape != expected:
            raise ValueError(f"Tokens {tuple(tokens_NK.shape)} do not fit this policy: give {expected}")
        self._tokens_NCK = torch.cat([self._tokens_NCK[:, 1:], tokens_NK[:, None]], dim=1)
        self._actions_NC = self._actions_NC.roll(-1, dims=1)
        self._seen = [min(seen + 1, self.context) for seen in self._seen]
        actions_N = self._explore(self._best_actions())
        self._actions_NC[:, -1] = actions_N
        return actions_N

    def _best_actions(self) -> Tensor:
        """Environments of equal context length go through the model together; in steady play that is all of them."""
        actions_N = torch.empty_like(self.games_N)
        for steps in sorted(set(self._seen)):
            rows = torch.tensor([row for row, seen in enumerate(self._seen) if seen == steps], device=actions_N.device)
            newest = slice(self.context - steps, None)
            actions = self._actions_NC[rows, newest][:, :-1]
            context = Context(self._tokens_NCK[rows, newest], actions, self.games_N[rows])
            legal_NA, gamma = self.legal_NA[rows], self.model.config.gamma
            actions_N[rows] = self.planner.plan(self._world, context, legal_NA, gamma)
        return actions_N

    def _explore(self, actions_N: Tensor) -> Tensor:
        if self.epsilon == 0:
            return actions_N
        # Both draws are made for every environment on the CPU, so that a seed means the same play everywhere.
        chance_N = torch.rand(len(actions_N), generator=self._generator)
        random_N = torch.multinomial(self.legal_NA.float().cpu(), 1, generator=self._generator)[:, 0]
        explored_N = torch.where(chance_N < self.epsilon, random_N, actions_N.cpu())
        return explored_N.to(actions_N.device)
