"""The other side of the training benchmark: networks of tokens, such as JOWA's, in the plainest way that works.

Attention is written out, with its mask and probabilities as whole matrices, its projections apart; every linear layer
and dropout is PyTorch's own; a batch of frames is encoded in one piece. Weights, objective and optimiser are ours.
"""

import copy
import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.transformer import CausalAttention, KVCache
from models.cpu.shortcuts import Dropout
from models.tokenizers.vq import Encoder, Tokenizer

M = TypeVar("M", bound=nn.Module)


class PlainAttention(nn.Module):
    """Softmax of q k^T / sqrt(E) under a mask, dropped out, times v."""

    def __init__(self, width: int, heads: int, dropout: float, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.key, self.query, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.drop = nn.Dropout(dropout)
        self.mask: Tensor
        self.register_buffer("mask", torch.ones(tokens, tokens).tril(), persistent=False)

    def forward(self, x: Tensor, layer: int, cache: KVCache | None, newest: bool) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        query = self.query(x).view(shape).transpose(1, 2)
        key = self.key(x).view(shape).transpose(1, 2)
        value = self.value(x).view(shape).transpose(1, 2)
        if cache is not None:
            key, value, _ = cache.append(layer, key, value)
        seen = key.shape[2]
        scores = (query @ key.transpose(2, 3)) / math.sqrt(shape[3])
        scores = scores.masked_fill(self.mask[seen - length : seen, :seen] == 0, float("-inf"))
        attended = self.drop(scores.softmax(-1)) @ value
        return self.proj(attended.transpose(1, 2).reshape(batch, length, width))


def plain(model: M, tokens: int) -> M:
    """The plain twin of a model that reads up to `tokens` tokens, with the same weights in tensors of its own."""
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, CausalAttention):
                width = child.proj.in_features
                replacement: nn.Module = PlainAttention(width, child.heads, child.dropout, tokens)
            elif isinstance(child, Dropout):
                replacement = nn.Dropout(child.p)
            else:
                continue
            setattr(parent, name, replacement)
    twin.load_state_dict(model.state_dict())
    return twin.train(model.training)


@torch.no_grad()
def encode(tokenizer: Tokenizer, frames_BHW: Tensor) -> Tensor:
    """Tokens (B, K) of uint8 frames, all at once: every layer as training runs it, distances written out."""
    encoder = tokenizer.encoder
    assert isinstance(encoder, Encoder)
    x = encoder.conv_in(F.pixel_unshuffle(frames_BHW[:, None].float() / 255 * 2 - 1, encoder.patch_stem))
    for level in encoder.down:
        x = level(x)
    x = encoder.conv_out(F.silu(encoder.norm_out(encoder.mid(x))))
    latents_BKE = tokenizer.pre_quant_conv(x).flatten(2).transpose(1, 2)
    codes_VE = tokenizer.embedding.weight
    squares_BKV = latents_BKE.square().sum(2, keepdim=True) + codes_VE.square().sum(1) - 2 * latents_BKE @ codes_VE.T
    return squares_BKV.argmin(2)
