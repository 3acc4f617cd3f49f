"""IRIS's actor and critic: a convolutional network on pixels, an LSTM, and a linear head each.

Parameters have the released checkpoints' names. Source: arXiv 2209.00588, section 2.3 and appendix A.3.

Shapes: N rows, T steps, C channels of H x W pixels, S hidden units, A actions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.blocks.layers import initialise_uniform
from models.iris.config import ActorCriticConfig


class Memory(NamedTuple):
    """The LSTM's state of every row."""

    hidden_NS: Tensor
    cell_NS: Tensor

    def where(self, rows_N: Tensor, other: "Memory") -> "Memory":
        """This state in the rows that are True, the other one elsewhere."""
        return Memory(*(torch.where(rows_N[:, None], ours, theirs) for ours, theirs in zip(self, other, strict=True)))


class Judgement(NamedTuple):
    """What a step says: logits (N, A) of actions and the expected return (N,), float32, and the state behind it."""

    logits_NA: Tensor
    values_N: Tensor
    memory: Memory


class ActorCritic(nn.Module):
    """`seed` fixes the first weights, which are PyTorch's default."""

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

    def fresh(self, rows: int) -> Memory:
        """The state before an episode: zeros."""
        zeros_NS = self.actor_linear.weight.new_zeros(rows, self.config.hidden)
        return Memory(zeros_NS, zeros_NS.clone())

    def forward(self, frames_NCHW: Tensor, memory: Memory) -> Judgement:
        """One step of every row, of frames in [0, 1]."""
        memory = self.remember(frames_NCHW, memory)
        logits_NA, values_N1 = self.actor_linear(memory.hidden_NS), self.critic_linear(memory.hidden_NS)
        return Judgement(logits_NA.float(), values_N1[:, 0].float(), memory)

    def remember(self, frames_NCHW: Tensor, memory: Memory) -> Memory:
        """The state after one more frame of every row."""
        x = 2 * frames_NCHW - 1
        for number in range(1, self.convolutions + 1):
            x = nn.functional.max_pool2d(self.get_submodule(f"conv{number}")(x), 2).relu()
        return Memory(*self.lstm(x.flatten(1), (memory.hidden_NS, memory.cell_NS)))

    @torch.no_grad()
    def burn_in(self, frames_NTCHW: Tensor, mask_NT: Tensor) -> Memory:
        """The state after the frames (in [0, 1]) whose mask is True; padding leaves a row's state as it is."""
        memory = self.fresh(len(frames_NTCHW))
        for step in range(frames_NTCHW.shape[1]):
            memory = self.remember(frames_NTCHW[:, step], memory).where(mask_NT[:, step], memory)
        return memory
