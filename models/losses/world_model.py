"""Cross entropies of a token world model as pure functions (Micheli et al. 2023, arXiv 2209.00588, section 2.3).

Shapes: B segments, T steps, K tokens a frame, V vocabulary. Each is a `masked_mean` over real steps, in float32, and so
are the losses of `value_learning`.
"""

import torch.nn.functional as F
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean of `values` where `mask` (bool, same shape) is True; 0 where it is True nowhere. Returns a scalar.

    `count`: how many entries the whole batch has, of which this is a part; the parts' results then add up to its mean.

    What stands at masked-out places does not matter, be it infinite or NaN. Shapes are static: nothing is selected.
    Raises ValueError where shapes differ.
    """
    if values.shape != mask.shape:
        raise ValueError(f"Values {tuple(values.shape)} and mask {tuple(mask.shape)} differ in shape")
    return values.masked_fill(~mask, 0.0).sum() / (mask.sum() if count is None else count.to(values.dtype)).clamp(min=1)


def observation_loss(logits_BSV: Tensor, tokens_BTK: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross entropy of the next observation token.

    logits_BSV: (B, T * K, V); entry s predicts observation token s + 1 of the segment, so its first token has no
    prediction and the last entry no target. tokens_BTK: long. Tokens of padded steps are ignored.
    Raises ValueError where the shapes do not fit.
    """
    batch, steps, per_frame = tokens_BTK.shape
    if logits_BSV.shape[:2] != (batch, steps * per_frame):
        raise ValueError(
            f"Observation logits {tuple(logits_BSV.shape)} do not fit tokens {tuple(tokens_BTK.shape)}: "
            f"the first two axes must be ({batch}, {steps * per_frame})"
        )
    mask_BS = mask_BT[..., None].expand_as(tokens_BTK).flatten(1)[:, 1:]
    return _cross_entropy(logits_BSV[:, :-1], tokens_BTK.flatten(1)[:, 1:], mask_BS, count)


def reward_loss(logits_BT3: Tensor, rewards_BT: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross entropy of the reward's sign, classes -1, 0, 1 in that order."""
    return _cross_entropy(logits_BT3, rewards_BT.sign().long() + 1, mask_BT, count)


def end_loss(logits_BT2: Tensor, ends_BT: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross entropy of the end flag, classes 0 and 1."""
    return _cross_entropy(logits_BT2, ends_BT.long(), mask_BT, count)


def _cross_entropy(
    logits: Tensor, labels: Tensor, mask: Tensor, count: Tensor | None
) -> Tensor:  # (B, S, V), (B, S), (B, S) -> ()
    losses = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return masked_mean(losses, mask.flatten(), count)
