"""IRIS's world model: a causal transformer over frames and actions, with heads for tokens, rewards and ends.

A step is K observation tokens, then one action. The hidden state of a token predicts the next observation token, that
of the action also the reward's sign and whether the game ends; the last token of a frame predicts nothing, since an
action follows. Parameters have the released checkpoints' names (`state_dict.py`). Source: arXiv 2209.00588, section
2.2.

Shapes: B segments or N rows, T steps, K tokens a frame, L tokens, D width, V vocabulary, S = T * K predictions.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.layers import Tables, initialise_normal, mlp_head
from models.blocks.transformer import KVCache, Transformer
from models.iris.config import WorldModelConfig
from models.iris.gpt2 import add_projection
from models.practice.curiosity import Ensemble
from models.practice.outcome import begin, bins_of, outputs_of
from models.practice.world import Outputs, require_segments

Cache = TypeVar("Cache")


class TokenWorldModel(nn.Module, ABC, Generic[Cache]):
    """Embeddings and heads of a model that reads token after token. What remembers, `hidden`, subclasses have.

    before: its modules, which come first among the parameters as in the original.
    """

    def __init__(self, config: WorldModelConfig, **before: nn.Module) -> None:
        super().__init__()
        self.config = config
        for name, module in before.items():
            self.add_module(name, module)
        self.embedder = Tables((config.num_actions, config.vocab_size), config.width)
        self.head_observations = mlp_head(config.width, config.vocab_size)
        self.head_rewards = mlp_head(config.width, outputs_of(config))
        self.head_ends = mlp_head(config.width, 2)
        self.bins = bins_of(config)
        self.ensemble = Ensemble(mlp_head(config.width, config.vocab_size) for _ in range(config.ensemble))

    @abstractmethod
    def empty_memory(self, rows: int, old: Cache | None = None) -> Cache:
        """Nothing read yet, for `rows` sequences; `old` is a memory of these that nobody needs any more."""

    @abstractmethod
    def hidden(self, x_NLD: Tensor, memory: Cache | None = None) -> Tensor:
        """Hidden states (N, L, D) of embedded tokens, which continue what is in the memory and are added to it."""

    def forward(self, tokens_BTK: Tensor, actions_BT: Tensor) -> Outputs:
        """Read whole segments. Raises ValueError where they are longer than the positions, or of other tokens."""
        require_segments(tokens_BTK, self.config.max_steps, self.config.tokens_per_frame)
        steps, per_frame = tokens_BTK.shape[1:]
        hidden_BLD = self.hidden(self._embed(tokens_BTK, actions_BT))
        hidden_BTCD = hidden_BLD.unflatten(1, (steps, per_frame + 1))  # C = K + 1 tokens of a step
        before_observation = torch.cat([hidden_BTCD[:, :, : per_frame - 1], hidden_BTCD[:, :, per_frame:]], dim=2)
        latents_BSD = before_observation.flatten(1, 2)
        at_action_BTD = hidden_BTCD[:, :, per_frame]
        return Outputs(
            hidden_BLD,
            self.head_observations(latents_BSD),
            self.head_rewards(at_action_BTD),
            self.head_ends(at_action_BTD),
            latents_BSD=latents_BSD,
        )

    def _embed(self, tokens_NTK: Tensor, actions_NA: Tensor) -> Tensor:
        """Embedded tokens (N, T * K + A, D): behind every frame its action, or none behind the newest: A is T - 1."""
        actions, observations = self.embedder.embedding_tables
        missing = tokens_NTK.shape[1] - actions_NA.shape[1]
        actions_NT1D = F.pad(actions(actions_NA), (0, 0, 0, missing))[:, :, None]
        x_NLD = torch.cat([observations(tokens_NTK), actions_NT1D], dim=2).flatten(1, 2)
        return x_NLD[:, : x_NLD.shape[1] - missing]

    def read_steps(self, tokens_NTK: Tensor, actions_NA: Tensor, memory: Cache) -> Tensor:
        """Hidden states (N, T * K + A, D) of frames and what was played in them, which are added to the memory; A is
        T, or T - 1 where nothing was played in the newest frame yet.
        """
        return self.hidden(self._embed(tokens_NTK, actions_NA), memory)

    def read_frame(self, tokens_NK: Tensor, memory: Cache) -> Tensor:
        """Hidden states (N, K, D) of a frame's tokens, which are added to the memory."""
        return self.hidden(self.embedder.embedding_tables[1](tokens_NK), memory)

    def read_action(self, actions_N: Tensor, memory: Cache) -> Tensor:
        """Hidden states (N, D) of actions, which are added to the memory."""
        return self.hidden(self.embedder.embedding_tables[0](actions_N[:, None]), memory)[:, 0]


class WorldModel(TokenWorldModel[KVCache]):
    """IRIS's own, a transformer. `seed` fixes the first weights: normal(0, 0.02), biases 0."""

    transformer: Transformer
    pos_emb: nn.Embedding

    def __init__(self, config: WorldModelConfig, seed: int = 0) -> None:
        transformer = Transformer(config.layers, config.heads, config.width, config.dropout, config.gelu)
        super().__init__(config, transformer=transformer, pos_emb=nn.Embedding(config.max_tokens, config.width))
        add_projection(self.transformer, config.project_before, config.project_behind)
        initialise_normal(self, torch.Generator().manual_seed(seed))
        begin(self.bins, self.head_rewards)

    def empty_memory(self, rows: int, old: KVCache | None = None) -> KVCache:
        """A cache for as many tokens as have positions; `old` is cleared and used again where it serves."""
        if old is None or not old.serves(rows, *self.transformer.cache_type()):
            return self.transformer.empty_cache(rows, self.config.max_tokens)
        old.clear()
        return old

    def hidden(self, x_NLD: Tensor, memory: KVCache | None = None) -> Tensor:
        """See `TokenWorldModel`."""
        first = 0 if memory is None else memory.length
        return self.transformer(x_NLD + self.pos_emb.weight[first : first + x_NLD.shape[1]], memory)
