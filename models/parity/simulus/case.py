"""The inputs of a golden file of Simulus as objects of ours: an agent with the recorded weights, batches, draws.

Shapes: B segments or N rows, T steps, K tokens a frame, D width.
"""

import torch
from torch import Tensor, nn

from models.api import Learning
from models.parity.blocks import BlockCase
from models.parity.golden_file import GoldenFile
from models.parity.simulus.config import Recording, simulus_config
from models.practice.actor_critic import Memory
from models.practice.draws import Draw, Given
from models.practice.world import Step
from models.simulus.agent import SimulusAgent
from models.simulus.config import SimulusConfig
from models.simulus.world import SimulusPlayer
from models.tokenizers.codebook import EMA


class Watched(SimulusPlayer):
    """Keeps the outputs of all prediction tokens (N, K, D) since the last reset."""

    seen: list[Tensor]

    def forget(self, rows: int) -> None:
        """See `BlockPlayer`."""
        super().forget(rows)
        self.seen = []

    def foresee(self, actions_N: Tensor, draw: Draw, observe: bool) -> Step:
        """See `BlockPlayer`."""
        step = super().foresee(actions_N, draw, observe)
        self.seen.append(self.latents_NKD)
        return step


class WatchedAgent(SimulusAgent):
    """Its players are watched."""

    def player(self) -> Watched:
        """See `Watched`."""
        return Watched(self.world_model, self.codes)


class Case(BlockCase[SimulusConfig, Recording, WatchedAgent]):
    """See `BlockCase`."""

    @classmethod
    def of(cls, golden: GoldenFile) -> "Case":
        """Read the file. Raises ValueError or KeyError where its config or weights are damaged or do not fit."""
        config, training, recording = simulus_config(golden.config)
        case = cls(golden, config, training, recording, WatchedAgent(config))
        case.agent.start(Learning(0, torch.ones(0, 0, dtype=torch.bool)), tuple(case.agent.networks))
        for name in case.agent.networks:
            case.restore(name)
        book = case.agent.tokenizer.embedding
        if isinstance(book, EMA):
            rows = golden.tensor("draws/ema_reset_rows")
            book.pick = lambda count, of, draws: rows[:count]
        return case

    def restore(self, name: str) -> nn.Module:
        """A network with the recorded weights, which training may have changed, and the recorded returns in mind."""
        network = super().restore(name)
        scale = self.agent.actor_critic.return_scale
        if name == "actor_critic" and scale is not None:
            scale.seen.zero_()
            scale.remember(self.golden.tensor("batch/probe/return_buffer").flatten())
        return network

    def draws(self) -> Given:
        """What was drawn in `imagine`, step by step; of the last step's tokens nobody asks."""
        kinds = ("actions", "ends", "tokens")
        return Given(**{kind: list(self.golden.tensor(f"draws/imagine/{kind}").unbind(1)) for kind in kinds})


def stacked(memory: Memory) -> Tensor:
    """The state (1 or 2, 2, N, S) of the actor and then of a separate critic: hidden units, cell."""
    return torch.stack([torch.stack(memory[first : first + 2]) for first in range(0, len(memory), 2)])
