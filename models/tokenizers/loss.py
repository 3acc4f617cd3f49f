"""What a tokenizer of single frames loses, as a sum of weighted terms (IRIS, arXiv 2209.00588, section 2.1; REM).

Shapes: n frames, C channels of H x W pixels.
"""

from collections.abc import Callable

from torch import Tensor

from models.api import Losses, weighted
from models.losses.frames import commitment, motion_weight, reconstruction_l1, reconstruction_l2
from models.losses.returns import value_error
from models.tokenizers.config import TokenizerWeights
from models.tokenizers.vq import Reconstructed

Distance = Callable[[Tensor, Tensor], Tensor]
"""(frames, frames), each (n, C, H, W) in [0, 1] -> scalar"""


def tokenizer_loss(
    frames_nCHW: Tensor,
    out: Reconstructed,
    weights: TokenizerWeights,
    lpips: Distance | None = None,
    returns_n: Tensor | None = None,
    background_CHW: Tensor | None = None,
) -> Losses:
    """Weighted sum of l1, mse, commitment, lpips and value, each a mean over frames; terms of weight 0 are not there.

    frames: float in [0, 1]. out: what the tokenizer makes of them. Without `lpips` that term is left out. returns: what
    each frame's episode still brought, discounted. Raises ValueError where a value is to be learned and they lack.
    background: the game's mean frame, where l1 favours what is off it (`motion_gain`).
    """
    x, x_hat, encoded = frames_nCHW, out.frames, out.encoded
    terms = {}
    if weights.l1:
        if background_CHW is None:
            terms["l1"] = reconstruction_l1(x, x_hat)
        else:  # a frame's weights have the mean 1 + gain, so that parts of a batch add up without counting it
            weight_nCHW = motion_weight(x, background_CHW, weights.motion_gain)
            terms["l1"] = reconstruction_l1(x, x_hat, weight_nCHW, x.new_tensor(1 + weights.motion_gain))
    if weights.mse:
        terms["mse"] = reconstruction_l2(x, x_hat)
    if weights.commitment:
        terms["commitment"] = commitment(encoded.z, encoded.z_quantized, weights.encoder, weights.codes)
    if weights.lpips and lpips is not None:
        terms["lpips"] = lpips(x, x_hat)
    if weights.value:
        if returns_n is None or out.values is None:
            raise ValueError("A value is learned from returns by a critic: give the batch returns, and value_layers")
        terms["value"] = value_error(out.values, returns_n.float() / weights.returns_scale)
    return weighted(terms, {name: getattr(weights, name) for name in terms})
