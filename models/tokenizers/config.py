"""The tokenizer's configuration: sizes of the encoder and decoder and the kind of codebook. Imports no torch."""

import math
from dataclasses import dataclass
from typing import Literal

from models.family import option
from models.limits import Dropout, Few, Positive, Share, Size, Weight, check, require_unset

MEANING = ("norm_groups", "decoder_groups", "cosine", "fsq_levels")
"""on which it depends what a tokenizer's weights mean, and which their names and shapes do not tell"""


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
    quantizer: Literal["straight_through", "ema", "fsq"] = "straight_through"  # fsq: rounding, see `fsq_levels`
    cosine: bool = False  # compare directions only: latents and codes are divided by their L2 norm
    kmeans_start: bool = False  # EMA: place the codes by k-means on the first training batch
    ema_decay: Dropout = 0.99
    revive_below: Weight = 0.0  # EMA: move a code used by fewer latents a batch (running mean) than this; 0 is off
    frame_channels: Size = option(1)  # 1 for grey frames, 3 for RGB
    attention_at: tuple[Size, ...] = option(())  # sides, in pixels, of levels with attention; empty: see `attention`
    initial: Literal["orthogonal", "uniform"] = option("orthogonal")  # first weights; uniform is PyTorch's default
    value_layers: tuple[Size, ...] = option(())  # hidden units of a critic that reads codes; empty: there is none
    # plain: REM's (`plain.py`), whose channels double a level; strided: Simulus's, with one convolution a level
    stack: Literal["residual", "plain", "strided"] = option("residual")
    decoder_groups: Few = option(0)  # norm groups of a plain decoder, where they are others than the encoder's
    fsq_levels: tuple[Size, ...] = option(())  # FSQ: of each number of a latent; their product is vocab_size
    quant_convs: bool = option(True)  # 1x1 convolutions before and behind the codes; none: z_channels is embed_dim
    ema_smoothing: Weight = option(0.0)  # EMA: added to every code's count (Laplace), so that none is 0
    revive: Literal["far", "anywhere"] = option("far")  # EMA: by latents far from codes, or any, whose counts stay

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
        if self.quantizer != "ema":
            names = "ema_decay ema_smoothing kmeans_start revive_below revive"
            require_unset(self, "tokenizer", names, f"on codes of '{self.quantizer}': set tokenizer.quantizer=ema")
        self._check_codes()

    def _check_codes(self) -> None:
        """Levels make the vocabulary of FSQ, and of nothing else; widths fit where no convolution maps them."""
        fsq = self.quantizer == "fsq"
        if fsq and (min(self.fsq_levels, default=0) < 2 or math.prod(self.fsq_levels) != self.vocab_size):
            raise ValueError(
                f"tokenizer.fsq_levels {self.fsq_levels} make {math.prod(self.fsq_levels)} tokens, vocab_size is "
                f"{self.vocab_size}: give levels of 2 or more whose product it is, as (8, 8, 8) for 512"
            )
        if not fsq and self.fsq_levels:
            raise ValueError("tokenizer.fsq_levels are of FSQ: leave them empty, or set tokenizer.quantizer=fsq")
        if fsq and (self.embed_dim != self.z_channels or self.cosine or not self.quant_convs):
            raise ValueError(
                f"FSQ shows its codes as the decoder reads them, by a convolution: set tokenizer.embed_dim "
                f"({self.embed_dim}) to z_channels ({self.z_channels}), cosine=false and quant_convs=true"
            )
        if not self.quant_convs and self.embed_dim != self.z_channels:
            raise ValueError(
                f"Without tokenizer.quant_convs codes are latents: embed_dim {self.embed_dim} must be z_channels "
                f"{self.z_channels}"
            )

    def _check_stack(self) -> None:
        """What a plain stack does not have is not asked of it, nor what only it has of another."""
        plain = self.stack != "residual"
        if plain and (self.channel_mult or self.patch_stem != 1 or self.attention or self.attention_at):
            raise ValueError(
                f"tokenizer.stack '{self.stack}' doubles its channels and has neither attention nor a patch stem: "
                "leave channel_mult and attention_at empty, patch_stem 1 and attention false"
            )
        if self.decoder_groups and not plain:
            raise ValueError("tokenizer.decoder_groups is of a plain stack: set it to 0, or tokenizer.stack=plain")
        groups = self.decoder_groups or self.norm_groups
        entering = (self.z_channels,) if self.stack == "strided" else ()  # which has a norm before its first layer
        if plain and any(channels % groups for channels in (*entering, *self.decoder_channels)):
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
        if self.stack != "residual":
            return tuple(self.channels << level for level in range(self.levels))
        return tuple(self.channels * factor for factor in self.channel_mult or (1,) * self.levels)

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        """Channels of each level of a plain decoder, coarsest first."""
        if self.stack == "strided":
            return self.level_channels[::-1]
        return tuple(max(self.z_channels >> level, self.channels) for level in range(self.levels))

    @property
    def code_width(self) -> int:
        """Numbers that are compared or rounded: embed_dim, or one a level list of FSQ."""
        return len(self.fsq_levels) or self.embed_dim

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
    codes: Weight = option(1.0)  # of the latter, which adds its value alone where an EMA moves the codes
    value: Weight = option(0.0)  # of the squared error of returns that `tokenizer.value_layers` reads off the codes
    returns_gamma: Share = option(0.99)  # the discount of those returns, of the game's own points
    returns_scale: Positive = option(1.0)  # returns are divided by this first: those of a game dwarf the other terms
    motion_gain: Weight = option(0.0)  # extra weight, in l1, of pixels off the stored episodes' mean frame (no paper's)

    def __post_init__(self) -> None:
        check(self, "weights")
        if not self.commitment:
            require_unset(self, "weights", "encoder codes", "without commitment: set weights.commitment above 0")
        if not self.value:
            require_unset(self, "weights", "returns_gamma returns_scale", "without value: set weights.value above 0")
        if self.motion_gain and not self.l1:
            raise ValueError(
                f"weights.motion_gain {self.motion_gain} weighs pixels of the l1 term, and weights.l1 is 0: set l1 "
                "above 0, or motion_gain to 0"
            )
