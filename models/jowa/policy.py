"""Acting with JOWA in many environments at once: greedily, by beam search or by tree search; compiled where asked for.

Imagining through torch.compile is an option for GPUs, which was tested on a CPU and never run on a GPU yet. What a
compiler, or a CUDA graph, reads has tensors of fixed shape and no Python numbers. So a token of growing spans attends
to every slot of the cache, filled or not, and environments are planned in numbers that are powers of two.

Shapes: N environments, C steps of context or slots of the cache, R spans that grow together, K tokens a frame,
C x H x W frames, A actions, D width, H heads, E width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from models.api import ActionValues, Context, Imagined, Planner, WorldModel
from models.blocks.transformer import Cache, KVCache
from models.cpu import shortcuts
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld, context_values
from models.planning.beam import Greedy, masked_values
from models.planning.history import History


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
    compiled: a backend of torch.compile for what is imagined (`CompiledWorld`); "" for none.
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
        self._history = History(games_N, self.context)

    def begin(self, rows: Sequence[int], seeds: Sequence[int] | None = None) -> None:
        """These environments begin a new episode: forget what they saw. Draws begin anew from `seeds` if given."""
        self._history.forget(rows)
        if seeds is not None:
            for row, seed in zip(rows, seeds, strict=True):
                self._streams_N[row] = _Streams(seed, self.games_N.device)

    def recall(self, row: int, frames: Tensor, actions: Tensor) -> None:
        """This environment is in the middle of an episode, whose newest frames (T, C, H, W) and actions (T,) these are.

        Actions are those taken at the frames.
        """
        newest = slice(max(0, len(frames) - self.context), None)
        self._history.recall(row, self.tokenizer.encode_tokens(frames[newest]), actions[newest])

    def act(self, frames: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Actions (N,) long for the newest frames (N, C, H, W) uint8 of the environments `rows` (all if None)."""
        return self.act_on_tokens(self.tokenizer.encode_tokens(frames), rows)

    def act_on_tokens(self, tokens_NK: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Actions (N,) long for the newest frames' tokens (N, K) long. Raises ValueError for another shape."""
        rows = range(len(self.games_N)) if rows is None else rows
        expected = (len(rows), self.model.config.tokens_per_frame)
        if tokens_NK.shape != expected:
            raise ValueError(f"Tokens {tuple(tokens_NK.shape)} do not fit this policy: give {expected}")
        self._history.see(rows, tokens_NK)
        actions_N = self._explore(rows, self._best_actions(rows))
        self._history.done(rows, actions_N)
        return actions_N

    @torch.no_grad()
    def values(self, row: int) -> ActionValues:
        """See `models.api.Policy`: Q at the newest frame, before any search. Costs a pass over the context."""
        return ActionValues(context_values(self.model, self._history.context([row]))[0], "Q")

    def _best_actions(self, rows: Sequence[int]) -> Tensor:
        """Environments of equal context length go through the model together; in steady play that is all of them."""
        actions_N = torch.empty(len(rows), dtype=torch.long, device=self.games_N.device)
        alone = [[place] for place in range(len(rows))]
        for places in alone if self._sample else self._history.groups(rows):
            group = [rows[place] for place in places]
            if self._sample:
                self._world.sampler = self._streams_N[group[0]].dreams
            context, legal_NA = self._history.context(group), self.legal_NA[group]
            actions_N[places] = self.planner.plan(self._world, context, legal_NA, self.model.config.gamma)
        return actions_N

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


# ---- through torch.compile ----


@dataclass(frozen=True)
class GrowingSpans(Cache):
    """A `blocks.transformer.Cache` of growing spans at one of their tokens; its shapes are those of every token."""

    keys: Tensor  # (layers, N, H, C, E), those of the cache
    values: Tensor
    slots_R: Tensor  # long, where the token goes
    bias: Tensor  # (N, 1, R, C), 0 for what is seen, else -inf

    @classmethod
    def first(cls, cache: KVCache) -> "GrowingSpans":
        """The spans that grow in `cache`, at their first token. Raises ValueError where one was read, or none grow."""
        if cache.bias is None or cache.filled:
            raise ValueError(f"No spans grow here, or {cache.filled} tokens of them were read already: branch first")
        bias = nn.functional.pad(cache.bias, (0, cache.capacity - cache.bias.shape[3]), value=-torch.inf)
        starts_R = cache.length + torch.arange(bias.shape[2], device=bias.device) * cache.span_tokens
        return cls(cache.keys, cache.values, starts_R, bias)

    def at(self, token: Tensor) -> "GrowingSpans":
        """These spans, which are at their first token, at that of this number (0-dimensional, long)."""
        slots_R = self.slots_R + token
        slot_C = torch.arange(self.bias.shape[3], device=self.bias.device)
        own_RC = (slot_C >= self.slots_R[:, None]) & (slot_C <= slots_R[:, None])
        return GrowingSpans(self.keys, self.values, slots_R, self.bias.masked_fill(own_RC, 0))

    def append(self, layer: int, keys_NHRE: Tensor, values_NHRE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Cache`."""
        self.keys[layer].index_copy_(2, self.slots_R, keys_NHRE.to(self.keys.dtype))
        self.values[layer].index_copy_(2, self.slots_R, values_NHRE.to(self.values.dtype))
        return self.keys[layer], self.values[layer], self.bias

    def advance(self, tokens: int) -> None:
        """Nothing: `at` says which token it is."""


def read_token(transformer: nn.Module, x_NRD: Tensor, spans: GrowingSpans, token: Tensor) -> Tensor:
    """One token of every growing span, (N, R, D) -> (N, R, D): what gets compiled."""
    return transformer(x_NRD, spans.at(token))


class CompiledWorld(JowaWorld):
    """A `JowaWorld` whose passes of one token are compiled, anew for every number of rows.

    backend: of torch.compile; "inductor" with CUDA graphs on a GPU.
    """

    def __init__(self, model: Jowa, backend: str, sampler: torch.Generator | None = None) -> None:
        super().__init__(model, sampler, drafts=False)
        mode = "reduce-overhead" if backend == "inductor" else None
        self._compiled = torch.compile(read_token, backend=backend, mode=mode, dynamic=True, fullgraph=True)

    def reset(self, context: Context) -> Imagined:
        """See `JowaWorld`. The compiler has kernels of its own: no shortcut of a CPU is taken."""
        with shortcuts.off():
            return super().reset(context)

    def _read(self, x_NRD: Tensor, cache: KVCache) -> Tensor:
        if not cache.filled:
            for memory in (cache.keys, cache.values):
                torch._dynamo.mark_static_address(memory)  # a CUDA graph may write to it
            self._spans = GrowingSpans.first(cache)
            self._numbers = torch.arange(cache.span_tokens, device=cache.keys.device)
        torch.compiler.cudagraph_mark_step_begin()  # what the last pass returned has been used
        hidden_NRD = self._compiled(self._player.transformer, x_NRD, self._spans, self._numbers[cache.filled])
        cache.advance(1)
        return hidden_NRD


@dataclass(frozen=True)
class PowersOfTwo:
    """Another planner, for numbers of environments that are powers of two: the last one is repeated to make one."""

    planner: Planner

    @property
    def horizon(self) -> int:
        return self.planner.horizon

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """See `models.api.Planner`."""
        rows = len(context.games_N)
        padded = torch.arange(1 << (rows - 1).bit_length(), device=legal_NA.device).clamp(max=rows - 1)
        more = Context(context.tokens_NCK[padded], context.actions_NC[padded], context.games_N[padded])
        return self.planner.plan(world, more, legal_NA[padded], gamma)[:rows]
