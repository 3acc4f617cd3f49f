"""Acting with JOWA in many environments at once: greedily, by beam search or by tree search.

Shapes: N environments, C steps of context, K tokens a frame, C x H x W frames, A actions.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from models.api import Context, Planner
from models.jowa.compiled import CompiledWorld, PowersOfTwo
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Greedy, masked_values


class Encoder(Protocol):
    """What a policy needs of a tokenizer."""

    def encode_tokens(self, frames: Tensor) -> Tensor:
        """encode_tokens(frames (N, C, H, W) uint8) -> tokens (N, K) long"""
        ...


class JowaPolicy:
    """Remembers the newest steps of each environment and plays the best legal action.

    games_N: long. legal_NA: bool, each environment's legal actions. planner: Greedy if None, or a Beam or Mcts.
    context: how many steps to look at, in 1..max_steps (all if None), shortened to max_steps - the planner's horizon.
    With `sample` what is imagined is drawn instead of the most likely. With probability `epsilon` an environment plays
    a random legal action instead. Every environment draws from its own stream, so none depends on how many play; for
    that, sampled plans are made one environment at a time. Streams begin from `seed` and the row, or as `begin` says.
    compiled: a backend of torch.compile for what is imagined, see `compiled.py`; "" for none.
    The model is put in eval mode. Raises ValueError where a shape or number does not fit.
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
        compiled: str = "",
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
        self._world, self._sample = JowaWorld(model), sample
        if compiled:
            self._world, self.planner = CompiledWorld(model, compiled), PowersOfTwo(self.planner)
        self._streams_N = [_Streams((seed << 16) + row, device) for row in range(rows)]
        # Right-aligned: the newest step is last. The newest action is unknown until act() has chosen it.
        shape = (rows, self.context, config.tokens_per_frame)
        self._tokens_NCK = torch.zeros(shape, dtype=torch.long, device=device)
        self._actions_NC = torch.zeros(shape[:2], dtype=torch.long, device=device)
        self._seen = [0] * rows

    def begin(self, rows: Sequence[int], seeds: Sequence[int] | None = None) -> None:
        """These environments begin a new episode: forget what they saw. Draws begin anew from `seeds` if given."""
        for place, row in enumerate(rows):
            self._seen[row] = 0
            if seeds is not None:
                self._streams_N[row] = _Streams(seeds[place], self.games_N.device)

    def act(self, frames: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Actions (N,) long for the newest frames (N, C, H, W) uint8 of the environments `rows` (all if None)."""
        return self.act_on_tokens(self.tokenizer.encode_tokens(frames), rows)

    def act_on_tokens(self, tokens_NK: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Actions (N,) long for the newest frames' tokens (N, K) long. Raises ValueError for another shape."""
        rows = range(len(self._seen)) if rows is None else rows
        expected = (len(rows), self._tokens_NCK.shape[2])
        if tokens_NK.shape != expected:
            raise ValueError(f"Tokens {tuple(tokens_NK.shape)} do not fit this policy: give {expected}")
        rows_N = torch.tensor(rows, device=self.games_N.device)
        self._tokens_NCK[rows_N] = torch.cat([self._tokens_NCK[rows_N, 1:], tokens_NK[:, None]], dim=1)
        self._actions_NC[rows_N] = self._actions_NC[rows_N].roll(-1, dims=1)
        for row in rows:
            self._seen[row] = min(self._seen[row] + 1, self.context)
        self._actions_NC[rows_N, -1] = self._explore(rows, self._best_actions(rows))
        return self._actions_NC[rows_N, -1]

    def _best_actions(self, rows: Sequence[int]) -> Tensor:
        """Environments of equal context length go through the model together; in steady play that is all of them."""
        actions_N = torch.empty(len(rows), dtype=torch.long, device=self.games_N.device)
        for places in self._groups(rows):
            group = [rows[place] for place in places]
            steps = self._seen[group[0]]
            if self._sample:
                self._world.sampler = self._streams_N[group[0]].dreams
            newest = slice(self.context - steps, None)
            actions = self._actions_NC[group, newest][:, :-1]
            context = Context(self._tokens_NCK[group, newest], actions, self.games_N[group])
            actions_N[places] = self.planner.plan(self._world, context, self.legal_NA[group], self.model.config.gamma)
        return actions_N

    def _groups(self, rows: Sequence[int]) -> list[list[int]]:
        """Places in `rows` that are planned together."""
        if self._sample:
            return [[place] for place in range(len(rows))]
        lengths = sorted({self._seen[row] for row in rows})
        return [[place for place, row in enumerate(rows) if self._seen[row] == steps] for steps in lengths]

    def _explore(self, rows: Sequence[int], actions_N: Tensor) -> Tensor:
        if self.epsilon == 0:
            return actions_N
        explored = actions_N.tolist()
        for place, row in enumerate(rows):
            # Both draws are always made, and on the CPU, so that a seed means the same play everywhere.
            chance, choice = torch.rand(2, generator=self._streams_N[row].actions).tolist()
            if chance < self.epsilon:
                legal = self.legal_NA[row].nonzero()[:, 0].tolist()
                explored[place] = legal[min(int(choice * len(legal)), len(legal) - 1)]
        return actions_N.new_tensor(explored)


class _Streams:
    """What one environment draws from: its random actions, and what it imagines."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.actions = torch.Generator().manual_seed(seed)
        self.dreams = torch.Generator(device).manual_seed(seed)
