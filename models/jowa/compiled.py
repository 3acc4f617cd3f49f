"""Imagining with JOWA through torch.compile, for GPUs: an option, which was tested on a CPU and never run on a GPU yet.

What a compiler, or a CUDA graph, reads has tensors of fixed shape and no Python numbers. So a token of growing spans
attends to every slot of the cache, filled or not, and environments are planned in numbers that are powers of two.

Shapes: N environments, R spans that grow together, C slots of the cache, D width, H heads, E width of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.api import Context, Imagined, Planner, WorldModel
from models.blocks.transformer import KVCache
from models.cpu import shortcuts
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld


@dataclass(frozen=True)
class GrowingSpans:
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
        super().__init__(model, sampler)
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
