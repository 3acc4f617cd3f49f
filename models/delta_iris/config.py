"""Delta-IRIS's configuration: sizes of its networks and what their losses weigh; the defaults are those on Atari.

Source: Micheli, Alonso, Fleuret, "Efficient World Models with Context-Aware Tokenization", arXiv 2406.19320, appendix
A, with the numbers of its code where the paper is silent. Learning rates, decay, clipping, the order of turns and how
segments are drawn belong to the schedule. Imports no torch.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from models.family import option
from models.limits import Dropout, Few, Size, Weight, Within, check
from models.practice.config import ActorConfig, PlayedConfig, require_equal

Beyond = Literal["clamp", "error"]
POINTS, REACH = 255, 20.0  # of two-hot numbers, on -20 .. 20 of symlog: numbers up to e^20 - 1 = 485,165,194


@dataclass(frozen=True)
class StackConfig:
    """Convolutions over a frame, or mirrored back to one: a residual block a level, which is halved where `down` is 1.

    `mult` are the levels' channels in units of `channels`. `patch_stem` folds s x s pixels into channels before the
    first convolution (and unfolds them behind the last), which makes it s^2 times cheaper; the original has none (1).
    """

    channels: Size = 64
    mult: tuple[Size, ...] = (1, 1, 2, 2, 4)
    down: tuple[Annotated[int, Within(least=0, most=1)], ...] = (1, 0, 1, 1, 0)
    norm_groups: Size = 32
    patch_stem: Size = 1

    def __post_init__(self) -> None:
        check(self, "convolutions")
        if not self.mult or len(self.mult) != len(self.down):
            raise ValueError(f"mult {self.mult} and down {self.down} are of as many levels, at least one: set both")
        odd = [width for width in (self.channels, *self.widths) if width % self.norm_groups]
        if odd:
            raise ValueError(f"{odd[0]} channels do not divide into {self.norm_groups} norm groups: change either")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.channels * factor for factor in self.mult)

    @property
    def stride(self) -> int:
        """Pixels of a frame's side for each of the grid's."""
        return self.patch_stem << sum(self.down)


@dataclass(frozen=True)
class EncoderConfig(StackConfig):
    """A stack that ends in `latent` channels."""

    latent: Size = 64


@dataclass(frozen=True)
class DeltaTokenizerConfig:
    """What names the change from a frame and an action to the next frame, and draws that frame (section 3.1)."""

    vocab_size: Size = 1024
    code_dim: Size = 64
    tokens_per_frame: Size = 4  # a square number: each names what changed in a square patch of the grid
    encoder: EncoderConfig = field(default_factory=EncoderConfig)  # of both frames and a plane of the action
    decoder: StackConfig = field(default_factory=StackConfig)
    frame_cnn: EncoderConfig = field(default_factory=lambda: EncoderConfig(channels=32, latent=16))  # of the first one
    action_channels: Size = 4  # that tell the decoder of the action
    resolution: Size = 64
    frame_channels: Size = 3
    num_actions: Size = 18
    difference: bool = False  # what is drawn is added to the frame before, in place of a whole frame as the original's
    codebook_decay: Dropout = 0.99
    usage_decay: Dropout = 0.98
    # Seldom used codes are revived while the codebook was moved fewer times than this (-1: always), or collapsed.
    revive_updates: Annotated[int, Within(least=-1, most=2**53)] = 400

    def __post_init__(self) -> None:
        check(self, "tokenizer")
        strides = {self.encoder.stride, self.decoder.stride, self.frame_cnn.stride}
        if len(strides) > 1 or self.resolution % self.encoder.stride:
            raise ValueError(
                f"Strides {sorted(strides)} of tokenizer.encoder, decoder and frame_cnn are to be one, which divides "
                f"the resolution {self.resolution}: change their down or patch_stem"
            )
        side = math.isqrt(self.tokens_per_frame)
        if side**2 != self.tokens_per_frame or self.grid % side:
            raise ValueError(
                f"{self.tokens_per_frame} tokens cannot share a grid of {self.grid} x {self.grid} in squares: give a "
                "square number whose root divides it"
            )

    @property
    def grid(self) -> int:
        """Places of a side between encoder and decoder."""
        return self.resolution // self.encoder.stride

    @property
    def patch(self) -> int:
        """Places of a side that one token tells of."""
        return self.grid // math.isqrt(self.tokens_per_frame)

    @property
    def token_width(self) -> int:
        """Numbers of a token's patch."""
        return self.encoder.latent * self.patch**2


@dataclass(frozen=True)
class DeltaWeights:
    """What the tokenizer's terms weigh (appendix A.1)."""

    commitment: Weight = 0.02
    l1: Weight = 0.1
    l2: Weight = 1.0
    worst: Weight = 0.01  # of a frame's worst pixel
    motion_gain: Weight = option(0.0)  # extra weight, in l1 and l2, of pixels that change (not the paper's)

    def __post_init__(self) -> None:
        check(self, "weights")
        if self.motion_gain and not (self.l1 or self.l2):
            raise ValueError(
                f"weights.motion_gain {self.motion_gain} weighs pixels of l1 and l2, and both weigh nothing: set "
                "weights.l2 above 0, or motion_gain to 0"
            )


@dataclass(frozen=True)
class WorldModelConfig:
    """Sizes of the transformer over blocks of a frame, an action and the tokens of what changes; and its losses."""

    max_steps: Size = 26  # blocks that have positions: how far it remembers
    layers: Size = 3
    heads: Size = 4
    width: Size = 256
    dropout: Dropout = 0.0
    frame_cnn: EncoderConfig = field(default_factory=lambda: EncoderConfig(channels=32, latent=4))
    num_actions: Size = 18
    rewards: Literal["sign", "two_hot"] = "sign"  # classes -1, 0, 1; or 255 points of symlog
    beyond: Beyond = "clamp"  # what becomes of a reward beyond the points: the outermost ones, or an error
    latents_weight: Weight = 0.1
    rewards_weight: Weight = 1.0
    ends_weight: Weight = 0.1

    def __post_init__(self) -> None:
        check(self, "world_model")
        if self.width % self.heads:
            raise ValueError(f"Width {self.width} does not divide into {self.heads} heads: change width or heads")
        if self.beyond == "error" and self.rewards == "sign":
            raise ValueError("world_model.beyond is of two-hot rewards, and signs are learned: set rewards=two_hot")


@dataclass(frozen=True, kw_only=True)
class DeltaActorConfig(ActorConfig):
    """The policy and its values, of frames, and how they learn in imagination (appendix A.3)."""

    frame_cnn: EncoderConfig = field(default_factory=lambda: EncoderConfig(channels=32, latent=16))
    hidden: Size = 512  # of the LSTM
    values: Literal["mean", "two_hot"] = "mean"  # one number; or 255 points of symlog
    beyond: Beyond = "clamp"
    burn_in: Few = 5
    entropy: Weight = 0.002
    target_decay: Dropout = 0.995  # of the copy whose values returns are made of

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value_bins or self.return_buffer or (self.real_reward, self.curiosity) != (1.0, 1.0):
            raise ValueError(
                "actor_critic.value_bins, return_buffer, real_reward and curiosity are of other families: leave them "
                "as they are, and set actor_critic.values=two_hot for values as classes"
            )
        if self.beyond == "error" and self.values == "mean":
            raise ValueError("actor_critic.beyond is of two-hot values, and one number is learned: set values=two_hot")
        if self.resolution % self.frame_cnn.stride:
            raise ValueError(
                f"Frames of {self.resolution} pixels do not divide by actor_critic.frame_cnn's stride "
                f"{self.frame_cnn.stride}: change its down or patch_stem"
            )


@dataclass(frozen=True)
class Faults:
    """What the original does and is mended here, one by one; all of it is needed for its recorded numbers.

    padded_targets: the world model learns the change from a segment's last real frame to the black one that pads it,
    which never happens. padding_seen: attention and the actor's memory read padding as if it had been played: an agent
    learns to begin every episode with black frames. padded_codes: the codebook follows changes into padding, and
    commitment counts them, so that codes are spent on them. early_target: the target network follows inside the loss,
    before the step that it should follow, so that it lags by one.

    What else the original does is mended where it belongs, and no number of its recording needs it: changes are told in
    float32 whatever autocast is on; a two-hot number at or beyond the lowest point is clamped as at the highest; a time
    limit is no end of the game (learn.collect.truncation_ends makes it one); a memory begins an episode empty, in play
    as after a reset, and never with black frames; what was played counts when it is whole on the disk; a seed is always
    a number of the recipe; a batch without any change has a loss of 0.
    """

    padded_targets: bool = False
    padding_seen: bool = False
    padded_codes: bool = False
    early_target: bool = False


AS_THE_ORIGINAL = Faults(True, True, True, True)


@dataclass(frozen=True)
class DeltaIrisConfig(PlayedConfig):
    """All three networks, the weights of the tokenizer's loss, and which faults of the original's are kept."""

    family: str = "delta_iris"
    tokenizer: DeltaTokenizerConfig = field(default_factory=DeltaTokenizerConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    actor_critic: DeltaActorConfig = field(default_factory=DeltaActorConfig)
    weights: DeltaWeights = field(default_factory=DeltaWeights)
    faults: Faults = field(default_factory=Faults)
    tokenizer_steps: Annotated[int, Within(least=2, most=2**16)] = 21  # of a segment that the tokenizer reads

    meaning: ClassVar = {
        "tokenizer": ("encoder", "decoder", "frame_cnn", "difference"),
        "world_model": ("heads", "frame_cnn"),
        "actor_critic": ("frame_cnn",),
    }

    shared = {  # noqa: RUF012, a ClassVar of the base
        "tokenizer": ("frame_channels", "num_actions"),
        "world_model": ("num_actions",),
        "actor_critic": ("frame_channels", "num_actions"),
    }

    def length(self, objective: str) -> int | None:
        """See `PlayedConfig`."""
        return self.tokenizer_steps if objective == "tokenizer" else super().length(objective)

    def whole_batches(self, objective: str) -> str:
        """Its codebook follows whole batches; how many imagined steps count is known when all rows are imagined."""
        return {
            "tokenizer": "the codebook of delta_iris follows whole batches: set it to 1",
            "actor_critic": "delta_iris means over the steps before imagined ends, which no part knows: set it to 1",
        }.get(objective, "")

    def require_fit(self, length: int) -> None:
        """See `PlayedConfig`."""
        super().require_fit(length)
        tokenizer, world, actor = self.tokenizer, self.world_model, self.actor_critic
        require_equal(
            ("tokenizer.num_actions", tokenizer.num_actions, "world_model.num_actions", world.num_actions),
        )
        cnn, side = world.frame_cnn, tokenizer.resolution
        if side % cnn.stride or cnn.latent * (side // cnn.stride) ** 2 != world.width:
            raise ValueError(
                f"world_model.frame_cnn makes {cnn.latent} x ({side} / {cnn.stride})^2 numbers of a frame and "
                f"world_model.width is {world.width}: they must be equal, change frame_cnn.latent or width"
            )
        if not any((self.weights.l1, self.weights.l2, self.weights.worst)):
            raise ValueError("weights leave the tokenizer no picture to learn from: set weights.l2 above 0")
        if actor.burn_in >= world.max_steps:
            raise ValueError(
                f"actor_critic.burn_in {actor.burn_in} leaves the world model's {world.max_steps} steps no room to "
                "imagine: lower it, or raise world_model.max_steps"
            )
