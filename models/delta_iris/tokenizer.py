"""Delta-IRIS's tokenizer: a few tokens tell what changed from a frame and an action to the next frame.

The encoder sees both frames and a plane of the action; the decoder draws the next frame of the first one, the action
and the codes. So tokens need not tell what could be known before. Source: arXiv 2406.19320, section 3.1, appendix A.1.

Shapes: N changes, C channels of R x R pixels, K tokens, E latents on a grid of g x g, D numbers of a token's patch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.layers import initialise_normal, initialise_uniform
from models.delta_iris.codebook import CosineCodebook, Told
from models.delta_iris.config import DeltaTokenizerConfig
from models.delta_iris.frame_networks import FrameDecoder, FrameEncoder, pieces


class Change(NamedTuple):
    """What happened: frames before and after it, (N, C, R, R) in [0, 1], and the action (N,) long between them."""

    before: Tensor
    actions_N: Tensor
    after: Tensor

    def of(self, rows: Tensor | slice) -> "Change":
        """Some of them."""
        return Change(*(each[rows] for each in self))


@dataclass(frozen=True)
class Drawn:
    """Changes through the whole tokenizer: how they were told (N * K rows), and the next frames (N, C, R, R)."""

    told: Told
    frames: Tensor


class Quantizer(CosineCodebook):
    """The codebook between two linear layers."""

    def __init__(self, config: DeltaTokenizerConfig, generator: torch.Generator) -> None:
        super().__init__(
            config.vocab_size,
            config.code_dim,
            generator,
            config.codebook_decay,
            config.usage_decay,
            config.revive_updates,
        )
        self.pre_quant_proj = nn.Linear(config.token_width, config.code_dim)
        self.post_quant_proj = nn.Linear(config.code_dim, config.token_width)


class DeltaTokenizer(nn.Module):
    """`seed` fixes the first weights, and the draws of revival."""

    def __init__(self, config: DeltaTokenizerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, generator = config, torch.Generator().manual_seed(seed)
        channels, grid = config.frame_channels, config.grid
        self.encoder_act_emb = nn.Embedding(config.num_actions, config.resolution**2)
        self.decoder_act_emb = nn.Embedding(config.num_actions, config.action_channels * grid**2)
        self.quantizer = Quantizer(config, generator)
        self.encoder = FrameEncoder(config.encoder, 2 * channels + 1)
        latents = config.frame_cnn.latent + config.action_channels + config.encoder.latent
        self.decoder = FrameDecoder(config.decoder, latents, channels)
        self.frame_cnn = FrameEncoder(config.frame_cnn, channels)
        initialise_uniform(self, generator)
        initialise_normal(self, generator)
        if config.difference:  # nothing has changed, as long as nothing is learned
            for parameter in self.decoder.decoder[-1].parameters():
                nn.init.zeros_(parameter)

    def follow(self, gather: Callable[[Tensor], Tensor] | None) -> None:
        """Let the codebook follow the latents of all processes: gather(this one's rows) -> all rows, in order."""
        if gather is not None:
            self.quantizer.gather = gather

    def forward(self, change: Change) -> Drawn:
        """With the straight-through gradient. Nothing follows: see `CosineCodebook.follow`."""
        told = self.tell(self.encode(change))
        return Drawn(told, self.draw(change.before, change.actions_N, told.straight_through))

    def encode(self, change: Change) -> Tensor:
        """Latents (N, E, g, g). Raises ValueError for frames of another size."""
        self._require(change.before)
        self._require(change.after)
        side = self.config.resolution
        plane_N1RR = self.encoder_act_emb(change.actions_N).unflatten(1, (1, side, side))
        return self.encoder(torch.cat([change.before, plane_N1RR, change.after], dim=1))

    def tell(self, latents: Tensor) -> Told:
        """Each square patch of the grid by a code, patches row by row; a place's numbers are together."""
        patches_nD = self.patches(latents).flatten(0, 1)
        return self.quantizer(self.quantizer.pre_quant_proj(patches_nD))

    def patches(self, latents: Tensor) -> Tensor:
        """(N, E, g, g) -> (N, K, D)."""
        patch, count = self.config.patch, len(latents)
        cut = latents.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # N, E, rows, patch, columns, patch
        return cut.permute(0, 2, 4, 3, 5, 1).reshape(count, self.config.tokens_per_frame, self.config.token_width)

    def grid(self, patches_NKD: Tensor) -> Tensor:
        """(N, K, D) -> (N, E, g, g): `patches` backwards."""
        patch, side = self.config.patch, math.isqrt(self.config.tokens_per_frame)
        cut = patches_NKD.unflatten(2, (patch, patch, -1)).unflatten(1, (side, side))
        return cut.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def draw(self, before: Tensor, actions_N: Tensor, codes_nE: Tensor) -> Tensor:
        """Next frames (N, C, R, R), about [0, 1] and not clipped, of codes (N * K, E). ValueError for another size."""
        self._require(before)
        grid = self.config.grid
        patches_NKD = self.quantizer.post_quant_proj(codes_nE).unflatten(0, (len(before), self.config.tokens_per_frame))
        seen, action = self.frame_cnn(before), self.decoder_act_emb(actions_N).unflatten(1, (-1, grid, grid))
        drawn = self.decoder(torch.cat([seen, action.to(seen.dtype), self.grid(patches_NKD).to(seen.dtype)], dim=1))
        return before + drawn if self.config.difference else drawn

    @torch.no_grad()
    def tokens(self, change: Change) -> Tensor:
        """Tokens (N, K) long, told in float32 whatever autocast is on."""
        parts = [change.of(rows) for rows in pieces(change.before, self.config.encoder)]
        with torch.autocast(change.before.device.type, enabled=False):
            told = [self.tell(self.encode(part)).tokens_n.unflatten(0, (len(part.actions_N), -1)) for part in parts]
        return torch.cat(told) if told else change.actions_N.new_zeros(0, self.config.tokens_per_frame)

    @torch.no_grad()
    def next_frames(self, before: Tensor, actions_N: Tensor, tokens_NK: Tensor) -> Tensor:
        """Next frames (N, C, R, R) in [0, 1], in steps of 1 / 255 as real ones."""
        drawn = [
            self.draw(before[rows], actions_N[rows], F.embedding(tokens_NK[rows].flatten(), self.quantizer.codebook))
            for rows in pieces(before, self.config.decoder)
        ]
        return as_shown(torch.cat(drawn)) if drawn else before

    def _require(self, frames: Tensor) -> None:
        shape = (self.config.frame_channels, self.config.resolution, self.config.resolution)
        if frames.ndim != 4 or frames.shape[1:] != shape or not frames.is_floating_point():
            raise ValueError(
                f"Frames {tuple(frames.shape)} of {frames.dtype} do not fit the tokenizer: give floats in [0, 1] of "
                f"shape (N, {', '.join(map(str, shape))})"
            )


def as_shown(frames: Tensor) -> Tensor:
    """Frames clipped to [0, 1] and rounded to bytes, as float32."""
    return (frames.float().clamp(0, 1) * 255).round() / 255
