"""Actors with a critic and a memory: what all share, and the one that looks at pixels.

IRIS's and REM's ("AC") look at frames by a convolutional network, an LSTM and a linear head each; parameters have the
released checkpoints' names. Source: arXiv 2209.00588, section 2.3 and appendix A.3.

Shapes: N rows, T steps, C channels of H x W pixels, S hidden units, A actions; X is what an actor sees, (C, H, W).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.blocks.layers import initialise_uniform
from models.practice.bins import Bins, ReturnScale
from models.practice.config import ActorConfig, ActorCriticConfig


class Memory(tuple[Tensor, ...]):
    """The state of every row: hidden units (N, S), and of an LSTM its cell (N, S)."""

    __slots__ = ()

    @property
    def hidden(self) -> Tensor:
        """What the heads read."""
        return self[0]

    @property
    def cell(self) -> Tensor:
        """Of an LSTM."""
        return self[1]

    def where(self, rows_N: Tensor, other: "Memory") -> "Memory":
        """This state in the rows that are True, the other one elsewhere."""
        return Memory(torch.where(rows_N[:, None], ours, theirs) for ours, theirs in zip(self, other, strict=True))

    def of(self, rows: Sequence[int]) -> "Memory":
        """The state of some rows."""
        return Memory(state[rows] for state in self)


class Judgement(NamedTuple):
    """What a step says: logits (N, A) of actions and the expected return (N,), float32, and the state behind it.

    critic_NZ: what the critic says of Z bins of returns, where it has some.
    """

    logits_NA: Tensor
    values_N: Tensor
    memory: Memory
    critic_NZ: Tensor | None = None


class Actor(nn.Module, ABC):
    """What looks, remembers and judges; `actor_linear` and `critic_linear` read the hidden units.

    bins: what the critic's outputs mean, where it learns returns as classes. return_scale: what divides advantages,
    where something does.
    """

    config: ActorConfig
    actor_linear: nn.Linear
    critic_linear: nn.Linear
    bins: Bins | None
    return_scale: ReturnScale | None
    states = 2  # tensors of its memory

    def add_heads(self, hidden: int, config: ActorConfig) -> None:
        """The layers that judge by `hidden` units, and what the config has of bins and of scaled advantages."""
        self.critic_linear = nn.Linear(hidden, config.value_bins or 1)
        self.actor_linear = nn.Linear(hidden, config.num_actions)
        self.bins = Bins(config.value_bins, config.value_reach) if config.value_bins else None
        self.return_scale = ReturnScale(config.return_buffer) if config.return_buffer else None

    def initialise(self, generator: torch.Generator) -> None:
        """First weights: PyTorch's default, and a critic of bins that expects little."""
        initialise_uniform(self, generator)
        if self.bins is not None:
            self.bins.begin(self.critic_linear)

    def follow(self, gather: Callable[[Tensor], Tensor] | None) -> None:
        """Let remembered returns be those of all processes: gather(this one's rows) -> all rows, in order."""
        if gather is not None and self.return_scale is not None:
            self.return_scale.gather = gather

    def fresh(self, rows: int) -> Memory:
        """The state before an episode: zeros."""
        weight = self.actor_linear.weight
        return Memory(weight.new_zeros(rows, weight.shape[1]) for _ in range(self.states))

    def forward(self, seen_NX: Tensor, memory: Memory) -> Judgement:
        """One step of every row."""
        memory = self.remember(seen_NX, memory)
        logits_NA, critic_NZ = self.actor_linear(memory.hidden).float(), self.critic_linear(self.judged_by(memory))
        if self.bins is None:
            return Judgement(logits_NA, critic_NZ[:, 0].float(), memory)
        return Judgement(logits_NA, self.bins.value(critic_NZ), memory, critic_NZ)

    def judged_by(self, memory: Memory) -> Tensor:
        """The hidden units (N, S) that the critic reads."""
        return memory.hidden

    @abstractmethod
    def remember(self, seen_NX: Tensor, memory: Memory) -> Memory:
        """The state after one more observation of every row."""

    def told(self, actions_N: Tensor, memory: Memory) -> Memory:
        """The state after the actions that were then done: the same, of an actor that does not remember these."""
        return memory

    @torch.no_grad()
    def burn_in(self, seen: Iterable[Tensor], mask_NT: Tensor, actions_NT: Tensor | None = None) -> Memory:
        """The state after T observations, each (N, X), and the actions done at them, where the mask is True.

        Padding leaves a row's state as it is. Without `actions_NT` the actor is told of none.
        """
        memory = self.fresh(len(mask_NT))
        for step, seen_NX in enumerate(seen):
            after = self.remember(seen_NX, memory)
            if actions_NT is not None:
                after = self.told(actions_NT[:, step], after)
            memory = after.where(mask_NT[:, step], memory)
        return memory


def halving(channels: int, layers: int, places: int) -> tuple[nn.Sequential, int]:
    """Convolutions over codes (N, channels, h, w), each of which halves the channels; and how many numbers come out of
    h * w places.
    """
    widths = [channels >> layer for layer in range(layers + 1)]
    each = (nn.Sequential(nn.Conv2d(*pair, 3, padding=1), nn.SiLU()) for pair in pairwise(widths))
    return nn.Sequential(*each), widths[-1] * places


class ActorCritic(Actor):
    """It sees frames (C, H, W) in [0, 1]. `seed` fixes the first weights, which are PyTorch's default."""

    config: ActorCriticConfig

    def __init__(self, config: ActorCriticConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        entering = (config.frame_channels, *config.channels)
        self.convolutions = len(config.channels)
        for number, width in enumerate(config.channels, start=1):
            self.add_module(f"conv{number}", nn.Conv2d(entering[number - 1], width, 3, padding=1))
        side = config.resolution >> self.convolutions
        self.lstm = nn.LSTMCell(config.channels[-1] * side**2, config.hidden)
        self.add_heads(config.hidden, config)
        self.initialise(torch.Generator().manual_seed(seed))

    def remember(self, seen_NX: Tensor, memory: Memory) -> Memory:
        """See `Actor`."""
        x = 2 * seen_NX - 1
        for number in range(1, self.convolutions + 1):
            x = nn.functional.max_pool2d(self.get_submodule(f"conv{number}")(x), 2).relu()
        return Memory(self.lstm(x.flatten(1), tuple(memory)))
