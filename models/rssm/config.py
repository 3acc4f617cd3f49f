"""Sizes of a recurrent state-space model and of the networks around it; the defaults are those on Meta-world.

Sources: Hafner et al., "Mastering Atari with Discrete World Models", arXiv 2010.02193; Seo et al., "Reinforcement
Learning with Action-Free Pre-Training from Videos", arXiv 2203.13880; Wu et al., "Pre-training Contextualized World
Models with In-the-wild Videos", arXiv 2305.18499; PreLAR (ECCV 2024). What follows from a size is computed, never
stated: how wide a feature, an embedded frame or a decoder's input is. Imports no torch.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from models.family import option
from models.limits import Dropout, Few, Positive, Share, Size, Within, check

StdOf = Literal["sigmoid2", "sigmoid", "softplus"]


@dataclass(frozen=True)
class RssmConfig:
    """A state is `deter` numbers that a GRU carries on, and a sample: `stoch` variables of `discrete` classes each, or,
    where `discrete` is 0, `stoch` Gaussian numbers whose std is at least `min_std`.
    """

    deter: Size = 1024
    hidden: Size = 1024
    stoch: Size = 32
    discrete: Few = 32
    std: StdOf = "sigmoid2"  # of Gaussian numbers: 2 sigmoid(x / 2), sigmoid(x), softplus(x)
    min_std: Annotated[float, Within(least=0)] = 0.1

    def __post_init__(self) -> None:
        check(self, "rssm")
        if self.discrete == 1:
            raise ValueError("rssm.discrete 1 leaves nothing to tell apart: give 2 classes or more, or 0 for Gaussians")

    @property
    def sample(self) -> int:
        """Numbers of a sample."""
        return self.stoch * max(self.discrete, 1)

    @property
    def feature(self) -> int:
        """Numbers of a state that decoder, heads, actor and critic read: its sample, then what the GRU carries."""
        return self.sample + self.deter


@dataclass(frozen=True)
class FramesConfig:
    """How frames are read and drawn. plain: four convolutions each way, of 64 x 64 pixels. resnet: stages of residual
    layers. context: the same, where one frame of a sequence is read besides, and the drawer looks at it.

    The last six are of `context` alone: which frame that is; its channels; which share of its places a drawn frame
    does not see; heads and dropout of that attention; how often a rectangle of the context is left blank while it is
    learned from (ContextWM, on Meta-world but for drawer-open: 0.5).
    """

    kind: Literal["plain", "resnet", "context"] = "resnet"
    resolution: Size = 64
    channels: Size = 48  # of the first stage; each next one has twice as many
    stages: Size = 3
    layers: Size = 2  # residual layers of a stage
    context_frame: Literal["random", "first", "last"] = "random"
    context_channels: Size = 48
    hidden_places: Dropout = 0.75
    heads: Size = 4
    dropout: Dropout = 0.1
    blanked: Share = option(0.0)

    def __post_init__(self) -> None:
        check(self, "frames")
        if self.blanked and self.kind != "context":
            raise ValueError(f"frames.blanked is of a context, and frames.kind={self.kind} has none: take kind=context")
        if self.kind == "plain" and self.resolution != 64:
            raise ValueError(f"frames.kind=plain draws 64 x 64 pixels alone, not {self.resolution}: take kind=resnet")
        if self.resolution % 2 ** (self.stages + 1):
            raise ValueError(
                f"frames.resolution {self.resolution} is halved {self.stages + 1} times, once before the "
                f"{self.stages} stages: give a multiple of {2 ** (self.stages + 1)}"
            )
        if self.kind == "context" and self.context_channels != self.channels:
            raise ValueError(
                f"frames.context_channels {self.context_channels} are looked at by a drawer of {self.channels}: they "
                "must be equal"
            )
        if self.kind == "context" and self.channels % self.heads:
            raise ValueError(f"frames.channels {self.channels} do not divide into {self.heads} heads: change either")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.channels << stage for stage in range(self.stages))

    @property
    def least_side(self) -> int:
        """Pixels of a side behind all stages."""
        return self.resolution >> (self.stages + 1)

    @property
    def embedded(self) -> int:
        """Numbers of a frame that was read."""
        if self.kind == "plain":
            return 8 * self.channels * 2 * 2  # 64 pixels become 31, 14, 6 and 2
        return self.widths[-1] * self.least_side**2


@dataclass(frozen=True)
class LatentActionConfig:
    """What led from one frame to the next, as told by the two alone: an inverse-dynamics network (PreLAR).

    sees: both frames, their difference, or all three. kind: a Gaussian, variables of `discrete` classes each, or plain
    numbers.
    """

    sees: Literal["concat", "diff", "catdiff"] = "concat"
    kind: Literal["stochastic", "discrete", "deterministic"] = "stochastic"
    width: Size = 64  # numbers, or variables
    discrete: Annotated[int, Within(least=2, most=2**16)] = 32
    hidden: Size = 1024
    channels: Size = 48

    def __post_init__(self) -> None:
        check(self, "latent_action")

    @property
    def numbers(self) -> int:
        """Numbers of a latent action, as the state-space model reads it."""
        return self.width * (self.discrete if self.kind == "discrete" else 1)


@dataclass(frozen=True)
class ActionEncoderConfig:
    """What turns an environment's action into the latent action that a pre-trained world expects (PreLAR)."""

    kind: Literal["stochastic", "discrete", "deterministic"] = "deterministic"
    width: Size = 64
    discrete: Annotated[int, Within(least=2, most=2**16)] = 32
    hidden: Size = 1024

    def __post_init__(self) -> None:
        check(self, "action_encoder")

    @property
    def numbers(self) -> int:
        """See `LatentActionConfig`."""
        return self.width * (self.discrete if self.kind == "discrete" else 1)


@dataclass(frozen=True)
class HeadConfig:
    """A perceptron that reads features: rewards, ends, values, and what the actor is made of."""

    layers: Size = 4
    units: Size = 400

    def __post_init__(self) -> None:
        check(self, "head")


@dataclass(frozen=True)
class KlConfig:
    """How posterior and prior are drawn together: `balance` of it moves the prior towards the posterior, the rest the
    posterior towards the prior; at 0.5 both move alike, each with the whole gradient. Neither goes below `free` nats,
    which free_of_mean asks of the mean over all steps, and else of each.
    """

    balance: Annotated[float, Within(least=0, most=1)] = 0.8
    free: Annotated[float, Within(least=0)] = 0.0
    free_of_mean: bool = True

    def __post_init__(self) -> None:
        check(self, "kl")


@dataclass(frozen=True)
class BonusConfig:
    """How much a reward grows where what is seen is new among what was seen lately: `weight` 0 leaves it out (APV)."""

    weight: Annotated[float, Within(least=0)] = 0.0
    neighbours: Size = 16
    window: Size = 5  # steps of which a mean is compared
    queue: Size = 4096  # means that are remembered
    width: Size = 128  # numbers of a mean, by a fixed random projection
    momentum: Dropout = 0.99  # of the size by which it is divided
    eps: Positive = 1e-8

    def __post_init__(self) -> None:
        check(self, "bonus")
