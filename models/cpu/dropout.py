"""Dropout on a CPU, where PyTorch's costs as much as a matrix product.

PyTorch draws 53 random bits for every entry; 16 are enough: p is met to 1/131,072. Masks are compared in place and
multiplied in the type of what they mask: PyTorch is slow at comparing into bool and, in float32, at multiplying by it.

Shapes: B rows, H heads, L tokens, E width of a head, N = B * H.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cpu import shortcuts

PER_DRAW = 4  # 16-bit numbers in a draw of 64
RANGE = 1 << 16


def keep_mask(shape: Sequence[int], p: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Tensor of `shape` with 0 where to drop (probability p), else 1, from PyTorch's random numbers of the CPU."""
    size = math.prod(shape)
    draws = torch.empty(-(-size // PER_DRAW), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    threshold = round(p * RANGE) - RANGE // 2
    return draws.view(torch.int16)[:size].ge_(threshold).view(tuple(shape)).to(dtype)


class Dropout(nn.Dropout):
    """`nn.Dropout`, with the cheaper mask on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or not shortcuts.taken(x):
            return super().forward(x)
        return x * keep_mask(x.shape, self.p, x.dtype) * (1 / (1 - self.p))


def causal_attention(query_BHLE: Tensor, key_BHLE: Tensor, value_BHLE: Tensor, p: float) -> Tensor:
    """Scaled dot-product attention of as many queries as keys, dropping attention with probability p: (B, H, L, E)."""
    if p == 0 or not shortcuts.taken(query_BHLE):
        return F.scaled_dot_product_attention(query_BHLE, key_BHLE, value_BHLE, dropout_p=p, is_causal=True)
    rows, heads, length, width = query_BHLE.shape
    query_NLE, key_NLE, value_NLE = (x.flatten(0, 1) for x in (query_BHLE, key_BHLE, value_BHLE))
    future_LL = torch.full((length, length), -torch.inf, dtype=query_NLE.dtype).triu(1)
    scores_NLL = torch.baddbmm(future_LL, query_NLE, key_NLE.mT, alpha=1 / math.sqrt(width))
    kept_NLL = scores_NLL.softmax(-1, dtype=scores_NLL.dtype) * keep_mask(scores_NLL.shape, p, scores_NLL.dtype)
    return torch.bmm(kept_NLL, value_NLE / (1 - p)).unflatten(0, (rows, heads))
