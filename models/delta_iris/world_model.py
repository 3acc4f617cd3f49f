"""Delta-IRIS's world model: a causal transformer over frames, actions and the tokens of what changes.

A block is a frame, embedded by convolutions of its own as one continuous token; the action; and the K tokens of the
change that follows. The outputs of the action and of all of these tokens but the last predict the next of them; that of
the action also the reward and the end. Parameters have the released checkpoints' names, but for the convolutions' and
the transformer's (`state_dict.py`). Source: arXiv 2406.19320, section 3.2.

Shapes: B segments or N rows, T steps, L tokens, D width, V vocabulary, K tokens a change, C channels of R x R pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.blocks.layers import initialise_normal, initialise_uniform, mlp_head
from models.blocks.transformer import KVCache, Padded, Transformer
from models.delta_iris.config import POINTS, DeltaTokenizerConfig, WorldModelConfig
from models.delta_iris.frame_networks import Flat, FrameEncoder, pieces

ACTION = 1  # its place in a block


@dataclass(frozen=True)
class Foretold:
    """Of whole segments: hidden states (B, L, D), and logits of every block: of its change's tokens (B, T, K, V), of
    the reward (B, T, 3 or points) and the end (B, T, 2)."""

    hidden_BLD: Tensor
    latents_BTKV: Tensor
    rewards_BTV: Tensor
    ends_BT2: Tensor


class WorldModel(nn.Module):
    """`seed` fixes the first weights: normal(0, 0.02), biases 0; of convolutions PyTorch's default."""

    def __init__(self, config: WorldModelConfig, tokenizer: DeltaTokenizerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, generator, width = config, torch.Generator().manual_seed(seed), config.width
        self.tokens_per_change = tokenizer.tokens_per_frame
        self.pos_emb = nn.Embedding(config.max_steps * self.tokens_per_block, width)
        self.transformer = Transformer(config.layers, config.heads, width, config.dropout)
        self.frame_cnn = nn.Sequential(
            FrameEncoder(config.frame_cnn, tokenizer.frame_channels), Flat(), nn.LayerNorm(width)
        )
        self.act_emb = nn.Embedding(config.num_actions, width)
        self.latents_emb = nn.Embedding(tokenizer.vocab_size, width)
        self.head_latents = mlp_head(width, tokenizer.vocab_size)
        self.head_rewards = mlp_head(width, 3 if config.rewards == "sign" else POINTS)
        self.head_ends = mlp_head(width, 2)
        initialise_uniform(self, generator)
        initialise_normal(self, generator)

    @property
    def tokens_per_block(self) -> int:
        """The frame, the action and the change's tokens."""
        return self.tokens_per_change + 2

    @property
    def max_tokens(self) -> int:
        """Those that have positions."""
        return self.config.max_steps * self.tokens_per_block

    def forward(
        self, frames_BTCRR: Tensor, actions_BT: Tensor, latents_BTK: Tensor, hidden_BT: Tensor | None = None
    ) -> Foretold:
        """Read whole segments. `hidden` is True at blocks that no other may see. Raises ValueError for longer ones.

        latents: what changed behind each frame; those of the last block are read, and nothing is made of it.
        """
        steps = actions_BT.shape[1]
        if steps > self.config.max_steps:
            raise ValueError(f"Segments of {steps} steps do not fit {self.config.max_steps}: cut them shorter")
        x_BLD = self.embed(self.embed_frames(frames_BTCRR), actions_BT, latents_BTK)
        padding_BL = None if hidden_BT is None else hidden_BT.repeat_interleave(self.tokens_per_block, 1)
        cache = None if padding_BL is None or not bool(padding_BL.any()) else Padded(padding_BL)
        out_BLD = self.transformer(x_BLD + self.pos_emb.weight[: x_BLD.shape[1]], cache)
        blocks_BTLD = out_BLD.unflatten(1, (steps, -1))
        action_BTD = blocks_BTLD[:, :, ACTION]
        return Foretold(
            out_BLD,
            self.head_latents(blocks_BTLD[:, :, ACTION:-1]),
            self.head_rewards(action_BTD),
            self.head_ends(action_BTD),
        )

    def embed_frames(self, frames: Tensor) -> Tensor:
        """Embedded frames (..., D) of (..., C, R, R) in [0, 1]."""
        flat = frames.reshape(-1, *frames.shape[-3:])
        if torch.is_grad_enabled():
            return self.frame_cnn(flat).unflatten(0, frames.shape[:-3])
        parts = [self.frame_cnn(flat[rows]) for rows in pieces(flat, self.config.frame_cnn)]
        return torch.cat(parts).unflatten(0, frames.shape[:-3])

    def embed(self, frames_BTD: Tensor, actions_BT: Tensor, latents_BTK: Tensor) -> Tensor:
        """Blocks (B, T * (K + 2), D)."""
        actions_BT1D, latents_BTKD = self.act_emb(actions_BT)[:, :, None], self.latents_emb(latents_BTK)
        return torch.cat([frames_BTD[:, :, None], actions_BT1D, latents_BTKD], dim=2).flatten(1, 2)

    def empty_cache(self, rows: int, old: KVCache | None = None) -> KVCache:
        """A cache for as many tokens as have positions; `old` is cleared and used again where it serves."""
        if type(old) is not KVCache or not old.serves(rows, *self.transformer.cache_type()):
            return self.transformer.empty_cache(rows, self.max_tokens)
        old.clear()
        return old

    def read(self, x_NLD: Tensor, cache: KVCache, newest: bool = True) -> Tensor:
        """Outputs of tokens that continue what is in the cache, and are added to it: of the newest, or of all."""
        first = cache.length
        return self.transformer(x_NLD + self.pos_emb.weight[first : first + x_NLD.shape[1]], cache, newest)
