"""Simulus's world model: attention or a RetNet over frames and actions, with heads for tokens, rewards and ends.

A block is a frame's K observation tokens, then one action. Observation tokens are embedded as the tokenizer's codes,
which get no gradient, through a linear map where these are of another width. All tokens of the next frame are predicted
at once from prediction tokens that run behind a block (POP, see `models/blocks/`); the output of the last of them says
also what reward the block's action brought and whether the game ended. So a reward needs no frame behind it to be
learned; the original asks for one. Heads of an ensemble predict the same tokens from outputs that they do not change:
where they disagree there is something to learn. Source: arXiv 2502.11537, section 2.

Shapes: B segments or N rows, T blocks, K tokens a frame, D width, V vocabulary, E numbers of a code, Z bins, M members.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.blocks.layers import initialise_uniform
from models.blocks.pop_attention import PopTransformer
from models.blocks.retnet import RetNet
from models.blocks.transformer import KVCache
from models.practice.bins import Bins
from models.practice.blocks import BlockModel
from models.practice.curiosity import Ensemble
from models.simulus.config import WorldModelConfig
from models.tokenizers.config import TokenizerConfig

States = KVCache | tuple[Tensor, ...]
"""What was read: of attention a cache, of a RetNet a state a layer (N, H, E, E)"""


class Foreseen(NamedTuple):
    """Of whole segments: outputs of prediction tokens (B, T + 1, K, D) before and behind each block, and of actions."""

    latents_BTKD: Tensor
    actions_BTD: Tensor


class WorldModel(BlockModel):
    """`seed` fixes the first weights: PyTorch's default, prediction tokens normal(0, 0.02), embeddings normal(0, 1)."""

    config: WorldModelConfig

    def __init__(self, config: WorldModelConfig, tokenizer: TokenizerConfig, seed: int = 0) -> None:
        super().__init__(config, tokenizer)
        generator, width, attends = torch.Generator().manual_seed(seed), config.width, config.backbone == "attention"
        self.head_observations = normed_head(width, 2 * width, self.vocabulary)
        self.ensemble = Ensemble(normed_head(width, 2 * width, self.vocabulary) for _ in range(config.ensemble))
        last = nn.Linear(2 * width, config.reward_bins)
        self.head_rewards = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), last)
        self.head_ends = normed_head(width, width, 2)
        self.bins = Bins(config.reward_bins, config.reward_reach)
        self.obs_emb_map = nn.Identity() if tokenizer.embed_dim == width else nn.Linear(tokenizer.embed_dim, width)
        if attends:
            self.attention = PopTransformer(config.layers, config.heads, width, config.dropout)
            # Nothing reads these two; the original's checkpoints have them.
            self.embed_unused, self.head_unused = nn.Embedding(1, width), nn.Linear(width, 1, bias=False)
        initialise_uniform(self, generator)
        self.bins.begin(last)
        if not attends:
            horizons = (config.fastest * self.tokens_per_block, config.slowest * self.tokens_per_block)
            self.retnet = RetNet(config.layers, config.heads, width, config.dropout, generator, horizons, alike=False)
        self.action_embedding = nn.Embedding(config.num_actions, width)
        nn.init.normal_(self.action_embedding.weight, generator=generator)
        if attends:
            self.pred_tokens = nn.Parameter(torch.empty(self.tokens_per_frame, width))
        else:  # whose last row is unused, as in the original
            self.placeholder_embeddings = nn.Embedding(self.tokens_per_block, width)
        nn.init.normal_(self.prediction_tokens, std=0.02, generator=generator)
        if attends:
            nn.init.normal_(self.embed_unused.weight, generator=generator)

    @property
    def prediction_tokens(self) -> Tensor:
        """Embedded, one a token of a frame or more, (K or more, D); parameters keep the original's names."""
        return self.pred_tokens if self.config.backbone == "attention" else self.placeholder_embeddings.weight

    def embed_actions(self, actions: Tensor) -> Tensor:
        """See `BlockModel`."""
        return self.action_embedding(actions)

    def embed_frames(self, tokens: Tensor, codes_VE: Tensor) -> Tensor:
        """See `BlockModel`."""
        return self.obs_emb_map(nn.functional.embedding(tokens, codes_VE.detach()))

    def forward(self, tokens_BTK: Tensor, actions_BT: Tensor, codes_VE: Tensor) -> Foreseen:
        """Read whole segments. `codes` are the tokenizer's. Raises ValueError for more blocks or other tokens."""
        self.require_fit(tokens_BTK)
        steps = tokens_BTK.shape[1]
        x_BLD, predict = self.embed(tokens_BTK, actions_BT, codes_VE), self._runs(len(tokens_BTK), steps + 1)
        places = slice(0, steps + 1)
        if self.config.backbone == "attention":
            read = self.attention.read(x_BLD, None, self.tokens_per_block, predict, places, ends_only=True)
            return Foreseen(read.predicted_NMPD, read.outputs_NLD)
        reading = self.retnet.read(
            x_BLD,
            block=self.tokens_per_block,
            per_chunk=self.config.blocks_per_chunk,
            predict=predict,
            behind=places,
            ends_only=True,
        )
        return Foreseen(reading.predicted_NMPD, reading.outputs_NLD)

    def nothing_read(self, rows: int, old: States = ()) -> States:
        """What `advance` begins with; `old` is what nobody needs any more, and is used again where it serves."""
        if self.config.backbone == "retnet":
            return ()
        return self.attention.fresh_cache(rows, (self.config.max_steps + 1) * self.tokens_per_block, old)

    def advance(self, x_NLD: Tensor, states: States, first: int) -> tuple[Tensor, States]:
        """Read on and predict the next frame in one pass: outputs of its prediction tokens (N, K, D), and the states.

        first: position of the first token that is read. A cache is changed in place.
        """
        predict, behind = self._runs(len(x_NLD), 1), slice(1, 2)
        if isinstance(states, KVCache):
            read = self.attention.read(x_NLD, states, predict=predict, behind=behind, ends_only=True)
            return read.predicted_NMPD[:, 0], states
        reading = self.retnet.read(x_NLD, states, first, predict=predict, behind=behind, ends_only=True)
        return reading.predicted_NMPD[:, 0], reading.last

    def _runs(self, rows: int, runs: int) -> Tensor:
        """Embedded prediction tokens (N, M, K, D)."""
        return self.prediction_tokens[: self.tokens_per_frame].expand(rows, runs, -1, -1)


def normed_head(width: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers with a norm and a SiLU between."""
    return nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, outputs))
