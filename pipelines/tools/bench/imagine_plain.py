"""The other side of the imagination benchmark: IRIS in the plain way of its description, over our weights.

Attention is written out, its projections apart; keys and values go into memory that is there from the start; frames are
decoded all at once at every step by PyTorch's own layers; a step is one pass a token, with the heads that have
something to say there. It shares no line with `models/iris/world.py`. Source: arXiv 2209.00588, section 2 and
appendix A.

Shapes: N rows, K tokens a frame, H steps; B frames of C channels and h x w pixels.
"""

import copy
import math

import torch
from torch import Tensor, nn

from models.blocks.layers import SpatialAttention
from models.blocks.transformer import KVCache
from models.cpu import shortcuts
from models.iris.world_model import WorldModel
from models.practice.actor_critic import ActorCritic
from models.practice.draws import Draw
from models.practice.imagination import Rollout
from models.tokenizers.vq import Tokenizer
from pipelines.tools.bench import train_plain


class PlainSpatialAttention(SpatialAttention):
    """The whole matrix of attention over positions."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, h, w)
        h = self.norm(x)
        query, key, value = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (query.mT @ key / math.sqrt(x.shape[1])).softmax(-1)
        return x + self.proj_out((value @ weights.mT).unflatten(2, x.shape[2:]))


class Plain:
    """A tokenizer, a world model and an actor-critic with the weights of ours, and how they imagine."""

    def __init__(self, tokenizer: Tokenizer, world_model: WorldModel, actor_critic: ActorCritic) -> None:
        self.tokenizer, self.actor_critic = copy.deepcopy(tokenizer), actor_critic
        for module in self.tokenizer.modules():
            if isinstance(module, SpatialAttention):
                module.__class__ = PlainSpatialAttention
        self.world_model = train_plain.plain(world_model, world_model.config.max_tokens)

    def imagine(self, tokens_NK: Tensor, horizon: int, draw: Draw) -> Rollout:
        """A rollout from frames, with no memory of earlier ones."""
        with shortcuts.off():
            memory, steps = self.actor_critic.fresh(len(tokens_NK)), []
            cache = self._restarted(tokens_NK)
            for step in range(horizon):
                frames_NCHW = self._decode(tokens_NK)
                judged = self.actor_critic(frames_NCHW, memory)
                memory = judged.memory
                actions_N = draw("actions", judged.logits_NA.detach())
                observed = step < horizon - 1
                passes = self.world_model.config.tokens_per_step if observed else 1
                if cache.length + passes > cache.capacity:
                    cache = self._restarted(tokens_NK)
                rewards_N, ends_N, tokens = self._step(actions_N, cache, draw, observed)
                steps.append((frames_NCHW, actions_N, judged.logits_NA, judged.values_N, rewards_N, ends_N))
                if observed:
                    tokens_NK = torch.stack(tokens, dim=1)
        return Rollout(*(torch.stack(each, dim=1) for each in zip(*steps, strict=True)))

    @torch.no_grad()
    def _restarted(self, tokens_NK: Tensor) -> KVCache:
        cache = self.world_model.empty_memory(len(tokens_NK))
        self._read(self.world_model.embedder.embedding_tables[1], tokens_NK, cache)
        return cache

    @torch.no_grad()
    def _step(
        self, actions_N: Tensor, cache: KVCache, draw: Draw, observe: bool
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Rewards (N,), ends (N,), and the next frame's tokens, each (N,), if wanted."""
        model = self.world_model
        actions, observations = model.embedder.embedding_tables
        hidden_ND = self._read(actions, actions_N[:, None], cache)
        rewards_N = draw("rewards", model.head_rewards(hidden_ND)).float() - 1
        ends_N = draw("ends", model.head_ends(hidden_ND)).bool()
        tokens: list[Tensor] = []
        while observe and len(tokens) < model.config.tokens_per_frame:
            tokens.append(draw("tokens", model.head_observations(hidden_ND)))
            hidden_ND = self._read(observations, tokens[-1][:, None], cache)
        return rewards_N, ends_N, tokens

    def _read(self, table: nn.Module, tokens_NL: Tensor, cache: KVCache) -> Tensor:
        """The newest token's hidden state (N, D); all L are added to the cache."""
        places = torch.arange(cache.length, cache.length + tokens_NL.shape[1])
        return self.world_model.transformer(table(tokens_NL) + self.world_model.pos_emb(places), cache)[:, -1]

    @torch.no_grad()
    def _decode(self, tokens_NK: Tensor) -> Tensor:
        codes = self.tokenizer.embedding.weight[tokens_NK]  # (N, K, E)
        grid = (self.tokenizer.config.grid,) * 2
        return self.tokenizer.decode(codes.mT.unflatten(2, grid)).clamp(0, 1)
