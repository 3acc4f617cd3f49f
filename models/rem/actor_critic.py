"""REM's actor and critic on codes: two convolutions, a recurrent cell that is told of actions too, a linear head each.

Parameters have the released checkpoints' names. Source: arXiv 2402.05643, section 2.4 and appendix A.3.

Shapes: N rows, E x h x w codes of a frame, S hidden units, A actions.
"""

import torch
from torch import Tensor, nn

from models.practice.actor_critic import Actor, ActorCritic, Memory, halving
from models.rem.config import RemActorConfig
from models.tokenizers.config import TokenizerConfig


class LatentActorCritic(Actor):
    """It sees codes (E, h, w). `seed` fixes the first weights: PyTorch's default."""

    config: RemActorConfig

    def __init__(self, config: RemActorConfig, tokenizer: TokenizerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, generator = config, torch.Generator().manual_seed(seed)
        self.convs, seen = halving(tokenizer.embed_dim, config.layers, tokenizer.tokens_per_frame)
        self.dense = nn.Sequential(nn.Linear(seen, config.hidden), nn.SiLU())
        cell = nn.LSTMCell if config.rnn == "lstm" else nn.GRUCell
        self.rnn: nn.LSTMCell | nn.GRUCell = cell(config.hidden, config.hidden)
        self.add_heads(config.hidden, config)
        self.initialise(generator)
        self.actions_embeddings = nn.Embedding(config.num_actions, config.hidden)
        nn.init.normal_(self.actions_embeddings.weight, generator=generator)
        self.states = 2 if config.rnn == "lstm" else 1

    def remember(self, seen_NX: Tensor, memory: Memory) -> Memory:
        """See `Actor`."""
        return self._step(self.dense(self.convs(seen_NX).flatten(1)), memory)

    def told(self, actions_N: Tensor, memory: Memory) -> Memory:
        """The state after the actions that were then done, a step of the cell of their own."""
        return self._step(self.actions_embeddings(actions_N), memory) if self.config.action_inputs else memory

    def _step(self, x_NS: Tensor, memory: Memory) -> Memory:
        if isinstance(self.rnn, nn.LSTMCell):
            return Memory(self.rnn(x_NS, tuple(memory)))
        return Memory([self.rnn(x_NS, memory.hidden)])


def new_actor(config: RemActorConfig, tokenizer: TokenizerConfig, seed: int = 0) -> Actor:
    """The actor of that kind."""
    if config.kind == "pixels":
        return ActorCritic(config.pixels, seed)
    return LatentActorCritic(config, tokenizer, seed)
