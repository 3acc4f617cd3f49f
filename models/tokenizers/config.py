"""The tokenizer's configuration: sizes of the encoder and decoder and the kind of codebook. Imports no torch."""

import math
from dataclasses import dataclass
from typing import Literal

from models.family import option
from models.limits import Dropout, Few, Positive, Share, Size, Weight, check


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of a VQ-VAE over single frames; the defaults are the 4.05 M parameter tokenizer of JOWA (2410.00564).

    `resolution / (patch_stem * product(downsample))` is the side of the token grid: 84 / 14 = 6, so 36 tokens a frame.
    `patch_stem` folds s x s pixels into channels before the first convolution (and unfolds them after the last), which
    makes every full-resolution convolution s^2 times cheaper; the original has none (1).

    Raises ValueError where sizes do not fit together.
    """

    vocab_size: Size = 2048
    embed_dim: Size = 512
    z_channels: Size = 512
    channels: Size = 64
    channel_mult: tuple[Size, ...] = ()  # one factor a level; empty: 1 everywhere
    res_blocks: Size = 2  # a level of the encoder; the decoder has one more
    attention: bool = True  # encoder: every level after the first, and the middle; decoder: the middle
    norm_groups: Size = 2
    downsample: tuple[Size, ...] = (7, 2)
    patch_stem: Size = 1
    resolution: Size = 84  # pixels a side
    quantizer: Literal["straight_through", "ema"] = "straight_through"
    cosine: bool = False  # compare directions only: latents and codes are divided by their L2 norm
    kmeans_start: bool = False  # EMA: place the codes by k-means on the first training batch
    ema_decay: Dropout = 0.99
    revive_below: Weight = 0.0  # EMA: move a code used by fewer latents a batch (running mean) than this; 0 is off
    frame_channels: Size = option(1)  # 1 for grey frames, 3 for RGB
    attention_at: tuple[Size, ...] = option(())  # sides, in pixels, of levels with attention; empty: see `attention`
    initial: Literal["orthogonal", "uniform"] = option("orthogonal")  # first weights; uniform is PyTorch's default
    value_layers: tuple[Size, ...] = option(())  # hidden units of a critic that reads codes; empty: there is none
    stack: Literal["residual", "plain"] = option("residual")  # plain: REM's (`plain.py`), whose channels double a level
    decoder_groups: Few = option(0)  # norm groups of a plain decoder, where they are others than the encoder's

    def __post_init__(self) -> None:
        check(self, "tokenizer")
        if not self.downsample:
            raise ValueError("A tokenizer needs a downsample: give tokenizer.downsample one factor or more")
        if self.resolution % self.total_stride:
            raise ValueError(
                f"Resolution {self.resolution} does not divide by patch_stem {self.patch_stem} times downsample "
                f"{self.downsample} = {self.total_stride}: choose factors whose product divides it (14 at 84 pixels)"
            )
        self._check_stack()
        if self.channel_mult and len(self.channel_mult) != self.levels:
            raise ValueError(
                f"channel_mult {self.channel_mult} has {len(self.channel_mult)} factors for {self.levels} levels: "
                "give one a level (one more than downsample has), or leave it empty"
            )
        if any(channels < 1 or channels % self.norm_groups for channels in self.level_channels):
            raise ValueError(
                f"Channels {self.level_channels} do not divide into {self.norm_groups} norm groups: "
                "change channels, channel_mult or norm_groups"
            )
        if self.quantizer != "ema" and (self.kmeans_start or self.revive_below):
            raise ValueError("kmeans_start and revive_below move codes by hand: they need quantizer='ema'")

    def _check_stack(self) -> None:
        """What a plain stack does not have is not asked of it, nor what only it has of another."""
        plain = self.stack == "plain"
        if plain and (self.channel_mult or self.patch_stem != 1 or self.attention or self.attention_at):
            raise ValueError(
                "tokenizer.stack 'plain' doubles its channels and has neither attention nor a patch stem: leave "
                "channel_mult and attention_at empty, patch_stem 1 and attention false"
            )
        if self.decoder_groups and not plain:
            raise ValueError("tokenizer.decoder_groups is of a plain stack: set it to 0, or tokenizer.stack=plain")
        groups = self.decoder_groups or self.norm_groups
        if plain and any(channels % groups for channels in self.decoder_channels):
            raise ValueError(
                f"Channels {self.decoder_channels} of the decoder do not divide into {groups} norm groups: change "
                "channels, z_channels or tokenizer.decoder_groups"
            )

    @property
    def levels(self) -> int:
        """Number of resolutions: one more than there are downsamples."""
        return len(self.downsample) + 1

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        if self.stack == "plain":
            return tuple(self.channels << level for level in range(self.levels))
        return tuple(self.channels * factor for factor in self.channel_mult or (1,) * self.levels)

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        """Channels of each level of a plain decoder, coarsest first."""
        return tuple(max(self.z_channels >> level, self.channels) for level in range(self.levels))

    @property
    def total_stride(self) -> int:
        """Pixels a side that one token covers."""
        return self.patch_stem * math.prod(self.downsample)

    @property
    def grid(self) -> int:
        """Tokens a side of the frame."""
        return self.resolution // self.total_stride

    @property
    def whole_batches(self) -> str:
        """Why it cannot learn from batches that are taken in parts; empty where it can."""
        if self.quantizer != "ema":
            return ""
        return (
            "an EMA codebook follows whole batches: set it to 1 and take more ranks, or tokenizer.quantizer="
            "straight_through"
        )

    @property
    def tokens_per_frame(self) -> int:
        """Tokens K of one frame (36 for the original)."""
        return self.grid**2


@dataclass(frozen=True)
class TokenizerWeights:
    """What the terms of the tokenizer's loss weigh; a term of weight 0 is not computed.

    lpips: counts where `lpips_file` of the agent's config names its weights, and is left out otherwise.
    """

    l1: Weight = 1.0
    mse: Weight = 0.0
    lpips: Weight = 1.0
    commitment: Weight = 1.0
    encoder: Weight = 1.0  # of the commitment's term that moves the encoder, beside the one that moves the codes
    value: Weight = option(0.0)  # of the squared error of returns that `tokenizer.value_layers` reads off the codes
    returns_gamma: Share = option(0.99)  # the discount of those returns, of the game's own points
    returns_scale: Positive = option(1.0)  # returns are divided by this first: those of a game dwarf the other terms
    motion_gain: Weight = option(0.0)  # extra weight, in l1, of pixels off the stored episodes' mean frame (no paper's)

    def __post_init__(self) -> None:
        check(self, "weights")
        if self.motion_gain and not self.l1:
            raise ValueError(
                f"weights.motion_gain {self.motion_gain} weighs pixels of the l1 term, and weights.l1 is 0: set l1 "
                "above 0, or motion_gain to 0"
            )
