"""Losses of the tokenizers as pure functions. Shapes: B frames, H x W pixels, E embed_dim, K tokens a frame.

Each is computed in float32 whatever the inputs' type.
"""

import torch
from torch import Tensor


def reconstruction_l1(x: Tensor, x_hat: Tensor, weight: Tensor | None = None, mean: Tensor | None = None) -> Tensor:
    """mean w |x - x_hat| on the scale [-1, 1]: the reconstruction term of JOWA's tokenizer (2410.00564, appendix).

    x, x_hat: (B, 1, H, W) in [0, 1]; their difference is doubled, because the original compares what its networks see,
    2x - 1, and the weight of this term against `commitment` depends on it. weight: importance >= 0 of each pixel,
    broadcast to x's shape and divided by its mean, so that it moves the loss's attention and not its scale.
    mean: that of the weights of the whole batch, where these frames are a part of one.
    Raises ValueError where the shapes of x and x_hat differ.
    """
    if x.shape != x_hat.shape:
        raise ValueError(f"Frames {tuple(x.shape)} and reconstruction {tuple(x_hat.shape)} differ in shape")
    error = 2 * (x.float() - x_hat.float()).abs()
    if weight is None:
        return error.mean()
    weight = weight.float().expand_as(error)
    return (weight / (weight.mean() if mean is None else mean) * error).mean()


def commitment(z: Tensor, z_q: Tensor, beta: float = 1.0) -> Tensor:
    """mean (sg(z) - z_q)^2 + beta mean (z - sg(z_q))^2 (van den Oord et al. 2017, equation 3, terms 2 and 3).

    z, z_q: (B, E, h, w) latents and their codes. The first term moves the codes (nothing, for an EMA codebook, where
    it only adds its value), the second the encoder.
    """
    z, z_q = z.float(), z_q.float()
    return (z.detach() - z_q).square().mean() + beta * (z - z_q.detach()).square().mean()


def code_perplexity(tokens: Tensor, vocab: int) -> Tensor:
    """exp(entropy) of the tokens' frequencies: 1 where one code is used, `vocab` where all are used alike.

    tokens: integers of any shape. Returns a float32 scalar. Raises ValueError for a token outside 0..vocab-1.
    """
    if tokens.numel() == 0 or tokens.min() < 0 or tokens.max() >= vocab:
        raise ValueError(f"Perplexity needs tokens in 0..{vocab - 1}, and at least one")
    frequency_V = torch.bincount(tokens.flatten(), minlength=vocab).float() / tokens.numel()
    return torch.special.entr(frequency_V).sum().exp()


def motion_weight(frames_now: Tensor, background: Tensor, gain: float) -> Tensor:
    """1 + gain d / mean(d) with d = |frame - background|: weights for `reconstruction_l1` that favour what moves.

    A remedy of this project, not of the original: moving objects are about 1% of an Atari frame's pixels, so an
    unweighted tokenizer reaches a low loss by drawing the background alone. Dividing by the frame's mean difference
    gives what is off the background `gain` times the weight of the whole frame in every game, however faint or small
    its objects are (in Freeway d is a quarter of Boxing's).
    frames_now: (B, 1, H, W) in [0, 1]. background: (1, H, W) one game's, or (B, 1, H, W) each frame's, for instance the
    mean over a replay. Returns (B, 1, H, W) >= 1; all 1 where a frame is its background.
    """
    difference = (frames_now.float() - background.float()).abs()
    return 1 + gain * difference / difference.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
