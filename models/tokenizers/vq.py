"""VQ-VAE tokenizer: one frame <-> a grid of tokens; and what it is trained on.

The encoder makes a grid of latents of a frame, the codebook tokens of latents, the decoder a frame of such a grid
(JOWA, arXiv 2410.00564, section 3.1 and appendix; van den Oord et al. 2017). It learns reconstruction, commitment, and
a perceptual distance where one is given, on shifted frames. A batch may be taken in parts: every part divides by the
counts of the whole batch, so that the parts' losses and gradients add up.

Shapes: B or n frames, C channels, H x W pixels, E embed_dim, h x w grid, K = h*w tokens a frame.
With the default configuration the state_dict's names are those of the released checkpoints.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.api import FrameBatch, Losses, Moment
from models.blocks.layers import (
    Downsample,
    Level,
    Middle,
    Upsample,
    group_norm,
    initialise_orthogonal,
    initialise_uniform,
)
from models.cpu.shortcuts import fastest_layout, finest_level, frames_in_cache, taken
from models.losses.frames import commitment, motion_weight, reconstruction_l1
from models.tokenizers.codebook import EMA, Codebook, Encoded, StraightThrough
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.fsq import FSQ
from models.tokenizers.plain import PlainDecoder, PlainEncoder

AT_ONCE = 256  # frames that are encoded or decoded together, however many are given
Distance = Callable[[Tensor, Tensor], Tensor]
"""(frames, frames), each (n, C, H, W) in [0, 1] -> scalar"""


class Encoder(nn.Module):
    """Strided residual network (JOWA, section 3.1; the shape of VQ-GAN's encoder)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths, groups = config.level_channels, config.norm_groups
        self.patch_stem = config.patch_stem
        self.conv_in = nn.Conv2d(config.frame_channels * config.patch_stem**2, config.channels, 3, padding=1)
        self.down = nn.ModuleList()
        side = config.resolution // config.patch_stem
        for level, width in enumerate(widths):
            entering = config.channels if level == 0 else widths[level - 1]
            attends = side in config.attention_at if config.attention_at else config.attention and level > 0
            stage = Level(entering, width, config.res_blocks, groups, attends)
            if level < len(config.downsample):
                stage.downsample = Downsample(width, config.downsample[level])
                side //= config.downsample[level]
            self.down.append(stage)
        self.mid = Middle(widths[-1], groups, config.attention)
        self.norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, frame_channels, H, W) in [-1, 1] -> (B, z_channels, h, w)
        x = fastest_layout(F.pixel_unshuffle(x, self.patch_stem))
        x = finest_level(self.conv_in, self.down[0], x)  # down[0](conv_in(x))
        for level in self.down[1:]:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Mirror of the encoder with one residual block more a level (JOWA, section 3.1).

    Levels have attention where `attention_at` names their side, and none otherwise.

    The factors come in the order of `downsample` (7, then 2), not reversed: the released checkpoints do so.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths, groups = config.level_channels, config.norm_groups
        self.patch_stem = config.patch_stem
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups, config.attention)
        self.up = nn.ModuleList()
        side = config.resolution // config.patch_stem
        for level, width in enumerate(widths):
            entering = widths[min(level + 1, len(widths) - 1)]
            factor = config.downsample[len(config.downsample) - level] if level > 0 else 1
            side //= factor
            stage = Level(entering, width, config.res_blocks + 1, groups, side in config.attention_at)
            if level > 0:
                stage.upsample = Upsample(width, factor)
            self.up.append(stage)
        self.norm_out = group_norm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], config.frame_channels * config.patch_stem**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:  # (B, z_channels, h, w) -> (B, frame_channels, H, W), about [-1, 1]
        x = self.mid(self.conv_in(fastest_layout(z)))
        for level in reversed(self.up):
            x = level(x)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.patch_stem)


class ValueCritic(nn.Module):
    """What a frame's codes say of the return to come: linear layers and ReLUs (the IRIS thesis's extra loss term)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        sizes = (config.code_width * config.tokens_per_frame, *config.value_layers)
        hidden = (layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU()))
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 1))

    def forward(self, z: Tensor) -> Tensor:  # (B, E, h, w) -> (B,)
        return self.layers(z)[:, 0]


@dataclass(frozen=True)
class Reconstructed:
    """A batch of frames through the whole tokenizer."""

    encoded: Encoded
    frames: Tensor  # (B, C, H, W) about [0, 1], not clipped
    values: Tensor | None = None  # (B,) where there is a critic


class Tokenizer(nn.Module):
    """Encoder, codebook and decoder. `seed` fixes the first weights and the draws of an EMA codebook."""

    def __init__(self, config: TokenizerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        plain = config.stack != "residual"
        self.encoder: Encoder | PlainEncoder = PlainEncoder(config) if plain else Encoder(config)
        width = config.code_width
        self.pre_quant_conv = nn.Conv2d(config.z_channels, width, 1) if config.quant_convs else nn.Identity()
        self.embedding = new_codebook(config, generator)
        self.post_quant_conv = nn.Conv2d(width, config.z_channels, 1) if config.quant_convs else nn.Identity()
        self.decoder: Decoder | PlainDecoder = PlainDecoder(config) if plain else Decoder(config)
        if config.value_layers:
            self.critic = ValueCritic(config)
        (initialise_orthogonal if config.initial == "orthogonal" else initialise_uniform)(self, generator)

    def follow(self, gather: Callable[[Tensor], Tensor] | None) -> None:
        """Let an EMA codebook follow the latents of all processes: gather(this one's rows) -> all rows, in order."""
        if gather is not None and isinstance(self.embedding, EMA):
            self.embedding.gather = gather

    def forward(self, frames: Tensor) -> Reconstructed:
        """Encode and decode `frames` (B, C, H, W) in [0, 1], with the straight-through gradient."""
        encoded = self.encode(frames)
        values = self.critic(encoded.straight_through) if self.config.value_layers else None
        return Reconstructed(encoded, self.decode(encoded.straight_through), values)

    def encode(self, frames: Tensor) -> Encoded:
        """Latents, codes and tokens of `frames` (B, C, H, W), float in [0, 1]. Raises ValueError for another shape."""
        channels, side = self.config.frame_channels, self.config.resolution
        if frames.ndim != 4 or frames.shape[1:] != (channels, side, side) or not frames.is_floating_point():
            raise ValueError(
                f"Frames {tuple(frames.shape)} of {frames.dtype} do not fit the tokenizer: "
                f"give floats in [0, 1] of shape (B, {channels}, {side}, {side}), or uint8 to encode_tokens"
            )
        return self.embedding.quantize(self.pre_quant_conv(self.encoder(frames * 2 - 1)))

    def table(self) -> Tensor:
        """What others read of every token, float32 (V, E), with gradient: its code, which of FSQ has been mapped."""
        codes_VF = self.embedding.codes()
        return self.post_quant_conv(codes_VF[:, :, None, None])[:, :, 0, 0] if self.config.fsq_levels else codes_VF

    def maps(self, tokens_NK: Tensor) -> Tensor:
        """What others see of frames' tokens (N, K): their codes over the grid, (N, E, h, w), without gradient."""
        codes_NKE = F.embedding(tokens_NK, self.table().detach())
        return codes_NKE.mT.unflatten(2, (self.config.grid, -1))

    def decode(self, z_quantized: Tensor) -> Tensor:
        """Frames (B, C, H, W) of codes (B, E, h, w), FSQ's unmapped; about [0, 1], not clipped: gradients pass."""
        return (self.decoder(self.post_quant_conv(z_quantized)) + 1) / 2

    @torch.no_grad()
    def encode_tokens(self, frames: Tensor) -> Tensor:
        """Tokens (..., K) int64 of uint8 frames (..., C, H, W). Raises ValueError for another shape or dtype."""
        if frames.dtype != torch.uint8 or frames.ndim < 3:
            raise ValueError(
                f"encode_tokens takes uint8 frames (..., C, H, W), not {frames.dtype} {tuple(frames.shape)}"
            )
        frames_BCHW = frames.reshape(-1, *frames.shape[-3:])
        tokens_BK = torch.cat([self.encode(part.float() / 255).tokens_BK for part in frames_BCHW.split(AT_ONCE)])
        return tokens_BK.reshape(*frames.shape[:-3], -1)

    @torch.no_grad()
    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Frames (..., C, H, W), clipped to [0, 1], of integer tokens (..., K). Raises ValueError for another K."""
        grid, side, channels = self.config.grid, self.config.resolution, self.config.frame_channels
        if tokens.ndim < 1 or tokens.shape[-1] != grid**2:
            raise ValueError(
                f"Tokens {tuple(tokens.shape)} do not fit the tokenizer: the last axis must be {grid**2} long"
            )
        finest = self.config.level_channels[0] * (side // self.config.patch_stem) ** 2
        at_once = frames_in_cache(finest) if taken(self.embedding.weight) else AT_ONCE
        parts = tokens.long().reshape(-1, grid, grid).split(at_once)
        frames = torch.cat([self.decode(self.embedding.look_up(part)).clamp(0, 1) for part in parts])
        return frames.reshape(*tokens.shape[:-1], channels, side, side)


def new_codebook(config: TokenizerConfig, generator: torch.Generator) -> Codebook:
    """The quantiser that the config names."""
    if config.quantizer == "fsq":
        return FSQ(config)
    return (EMA if config.quantizer == "ema" else StraightThrough)(config, generator)


def random_shift(frames: Tensor, pad: int, generator: torch.Generator, first: int = 0, of: int = 0) -> Tensor:
    """Shift each frame by -pad..pad whole pixels along both axes, repeating the edge (DrQ, Yarats et al. 2021).

    frames: (B, C, H, W) of any dtype; returns the same shape, dtype and device. `generator` lives on the CPU.
    Where the frames are rows first .. first + B of a batch of `of`, they are shifted as that whole batch would be.
    """
    batch, _, height, width = frames.shape
    all_2B = torch.randint(-pad, pad + 1, (2, of or batch, 1), generator=generator)
    shifts_2B = all_2B[:, first : first + batch].to(frames.device)
    rows_BH = (torch.arange(height, device=frames.device) + shifts_2B[0]).clamp(0, height - 1)
    columns_BW = (torch.arange(width, device=frames.device) + shifts_2B[1]).clamp(0, width - 1)
    frame_B = torch.arange(batch, device=frames.device)[:, None, None]
    return frames.movedim(1, -1)[frame_B, rows_BH[:, :, None], columns_BW[:, None, :]].movedim(-1, 1)


class TokenizerObjective:
    """The tokenizer's loss. `background_of` maps a game to its mean frame (C, H, W) in [0, 1]; none is needed without
    `motion_gain`, the extra weight of pixels off that background. `shift` is the augmentation in pixels.
    """

    def __init__(
        self,
        commitment_weight: float = 1.0,
        motion_gain: float = 0.0,
        shift: int = 0,
        seed: int = 0,
        background_of: Mapping[int, Tensor] | None = None,
        perceptual: Distance | None = None,
        perceptual_weight: float = 1.0,
    ) -> None:
        self._commitment, self._gain, self._shift, self._seed = commitment_weight, motion_gain, shift, seed
        self._background_of = background_of or {}
        self._perceptual, self._perceptual_weight = perceptual, perceptual_weight

    def prepare(self, batch: FrameBatch, moment: Moment) -> FrameBatch:
        """Shift the frames at random, each as the whole batch would shift it: draws depend on seed and step alone."""
        if not self._shift:
            return batch
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + moment.step)
        shifted = random_shift(batch.frames_nCHW, self._shift, generator, moment.first, moment.count)
        return FrameBatch(frames_nCHW=shifted, games_n=batch.games_n)

    def counts(self, batch: FrameBatch) -> Tensor:
        """(2,) float64: frames, and the sum over frames of their mean weights."""
        count = len(batch.frames_nCHW)
        mean = 1.0 if not self._gain else self._weight(batch).mean().double() * count
        return torch.stack([torch.as_tensor(float(value), dtype=torch.float64) for value in (count, mean)])

    def loss(
        self,
        tokenizer: Tokenizer,
        batch: FrameBatch,
        counts: Tensor,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> Losses:
        """reconstruction + commitment_weight * commitment + perceptual_weight * perceptual, means over all frames."""
        x = batch.frames_nCHW.float() / 255
        with autocast():
            out = tokenizer(x)
        weight = self._weight(batch) if self._gain else None
        mean = (counts[1] / counts[0]).float().to(x.device) if self._gain else None
        reconstruction = reconstruction_l1(x, out.frames, weight, mean)
        committed = commitment(out.encoded.z, out.encoded.z_quantized)
        total = reconstruction + self._commitment * committed
        terms = {"reconstruction": reconstruction.detach(), "commitment": committed.detach()}
        if self._perceptual is not None:
            distance = self._perceptual(x, out.frames)
            total = total + self._perceptual_weight * distance
            terms["lpips"] = distance.detach()
        part = len(x) / float(counts[0])  # all terms are means over frames of one size
        return Losses(total * part, {name: term * part for name, term in terms.items()})

    def _weight(self, batch: FrameBatch) -> Tensor:
        background = torch.stack([self._background_of[game] for game in batch.games_n.tolist()])
        return motion_weight(batch.frames_nCHW.float() / 255, background, self._gain)
