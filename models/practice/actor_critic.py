"""Actors with a critic and a memory: what all share, and the one that looks at pixels.

IRIS's and REM's ("AC") look at frames by a convolutional network, an LSTM and a linear head each; parameters have the
released checkpoints' names. Source: arXiv 2209.00588, section 2.3 and appendix A.3.

Shapes: N rows, T steps, C channels of H x W pixels, S hidden units, A actions; X is what an actor sees, (C, H, W).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from models.blocks.layers import initialise_uniform
from models.practice.config import ActorCriticConfig


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
    """What a step says: logits (N, A) of actions and the expected return (N,), float32, and the state behind it."""

    logits_NA: Tensor
    values_N: Tensor
    memory: Memory


class ActorConfig(Protocol):
    """What is asked of any actor's config."""

    @property
    def num_actions(self) -> int: ...

    @property
    def burn_in(self) -> int:
        """Real frames that fill its memory before it imagines."""
        ...


class Actor(nn.Module, ABC):
    """What looks, remembers and judges; `actor_linear` and `critic_linear` read the hidden units."""

    config: ActorConfig
    actor_linear: nn.Linear
    critic_linear: nn.Linear
    states = 2  # tensors of its memory

    def fresh(self, rows: int) -> Memory:
        """The state before an episode: zeros."""
        weight = self.actor_linear.weight
        return Memory(weight.new_zeros(rows, weight.shape[1]) for _ in range(self.states))

    def forward(self, seen_NX: Tensor, memory: Memory) -> Judgement:
        """One step of every row."""
        memory = self.remember(seen_NX, memory)
        logits_NA, values_N1 = self.actor_linear(memory.hidden), self.critic_linear(memory.hidden)
        return Judgement(logits_NA.float(), values_N1[:, 0].float(), memory)

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
        self.critic_linear = nn.Linear(config.hidden, 1)
        self.actor_linear = nn.Linear(config.hidden, config.num_actions)
        initialise_uniform(self, torch.Generator().manual_seed(seed))

    def remember(self, seen_NX: Tensor, memory: Memory) -> Memory:
        """See `Actor`."""
        x = 2 * seen_NX - 1
        for number in range(1, self.convolutions + 1):
            x = nn.functional.max_pool2d(self.get_submodule(f"conv{number}")(x), 2).relu()
        return Memory(self.lstm(x.flatten(1), tuple(memory)))
