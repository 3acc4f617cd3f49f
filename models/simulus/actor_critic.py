"""Simulus's actor and critic on codes: convolutions, linear layers, an LSTM that is told of actions too, two heads.

The critic says returns by bins (HL-Gauss). It reads the actor's memory, or has layers and a memory of its own. Source:
arXiv 2502.11537, section 2.4 and appendix, with its code.

Shapes: N rows, E x h x w codes of a frame, S hidden units, A actions.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.practice.actor_critic import Actor, Memory, halving
from models.simulus.config import SimulusActorConfig
from models.tokenizers.config import TokenizerConfig


class Trunk(nn.Module):
    """What sees and remembers, behind which heads stand."""

    def __init__(self, config: SimulusActorConfig, tokenizer: TokenizerConfig) -> None:
        super().__init__()
        self.convs, seen = halving(tokenizer.embed_dim, config.layers, tokenizer.tokens_per_frame)
        sizes = (seen, *config.mlp)
        layers = ((nn.Linear(*pair), nn.LayerNorm(pair[1]), nn.SiLU()) for pair in pairwise(sizes))
        self.fuser = nn.Sequential(*(layer for each in layers for layer in each))
        self.lstm = nn.LSTMCell(config.hidden, config.hidden)
        self.actions = nn.Embedding(config.num_actions, config.hidden)

    def remember(self, seen_NX: Tensor, memory: Memory) -> Memory:
        """The state after an observation."""
        return Memory(self.lstm(self.fuser(self.convs(seen_NX).flatten(1)), tuple(memory)))

    def told(self, actions_N: Tensor, memory: Memory) -> Memory:
        """The state after actions, a step of the cell of their own."""
        return Memory(self.lstm(self.actions(actions_N), tuple(memory)))


class SimulusActor(Actor):
    """It sees codes (E, h, w). `seed` fixes the first weights: PyTorch's default.

    Its memory is hidden units and cell of the actor and then, where they are separate, of the critic.
    """

    config: SimulusActorConfig

    def __init__(self, config: SimulusActorConfig, tokenizer: TokenizerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, generator = config, torch.Generator().manual_seed(seed)
        self.actor = Trunk(config, tokenizer)
        self.critic = Trunk(config, tokenizer) if config.separate else None
        self.add_heads(config.hidden, config)
        self.initialise(generator)
        for trunk in self._trunks:
            nn.init.normal_(trunk.actions.weight, generator=generator)
        self.states = 2 * len(self._trunks)

    @property
    def _trunks(self) -> list[Trunk]:
        return [self.actor] if self.critic is None else [self.actor, self.critic]

    def remember(self, seen_NX: Tensor, memory: Memory) -> Memory:
        """See `Actor`."""
        return Memory(state for trunk, own in self._each(memory) for state in trunk.remember(seen_NX, own))

    def told(self, actions_N: Tensor, memory: Memory) -> Memory:
        """See `Actor`."""
        if not self.config.action_inputs:
            return memory
        return Memory(state for trunk, own in self._each(memory) for state in trunk.told(actions_N, own))

    def judged_by(self, memory: Memory) -> Tensor:
        """See `Actor`: the critic's own, where it has a memory."""
        return memory[-2]

    def _each(self, memory: Memory) -> list[tuple[Trunk, Memory]]:
        """Every trunk with its part of the memory."""
        return [(trunk, Memory(memory[2 * number : 2 * number + 2])) for number, trunk in enumerate(self._trunks)]
