"""What configs of families share whose actor-critic practises inside a world model. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from models.family import AgentConfig, Frames, Objective, Segments, Takes, manner, option
from models.limits import Few, Kept, Positive, Share, Size, Weight, check, require_unset
from models.tokenizers.config import MEANING, TokenizerConfig, TokenizerWeights

NETWORKS = ("tokenizer", "world_model", "actor_critic")
"""of every such family, in the order of the originals' checkpoints"""


OUTCOME = ("reward_reach", "clip_rewards")
"""numbers of an `OutcomeConfig` that say what a head of rewards means"""


def objectives(world_outside: tuple[str, ...] = ()) -> Mapping[str, Objective]:
    """What each of its networks learns from; `world_outside`: whose weights the world model's loss asks for."""
    return {
        "tokenizer": Objective(trains=("tokenizer",), reads=Frames(), outside=("lpips",)),
        "world_model": Objective(trains=("world_model",), reads=Segments(), outside=world_outside, tells_rows=True),
        "actor_critic": Objective(trains=("actor_critic",), reads=Segments(padding="left")),
    }


@dataclass(frozen=True, kw_only=True)
class OutcomeConfig:
    """How a world model tells rewards, and whether it makes an actor curious: see `outcome.py`."""

    reward_bins: Few = option(0)  # rewards are learned as classes, of so many bins; 0: by their signs
    reward_reach: Positive = option(15.0)  # where the bins end, on both sides, in symlog space
    clip_rewards: bool = option(True)  # bins are of rewards' signs, not of their points
    ensemble: Few = option(0)  # heads whose disagreement about the next frame makes the actor curious; 0: it is not

    def __post_init__(self) -> None:
        if self.reward_bins == 1:
            raise ValueError("world_model.reward_bins is 1, which says nothing: give 2 or more, as 129")
        if not self.reward_bins and (not self.clip_rewards or self.reward_reach != 15.0):
            raise ValueError(
                "world_model.clip_rewards and reward_reach are of bins, and world_model.reward_bins is 0: set it to 129"
            )


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """What every actor and critic has, whatever they look like: what they see and do, and how they learn.

    Returns and what the terms weigh: arXiv 2209.00588, section 2.3 and appendix A.3.
    """

    num_actions: Size = 18
    resolution: Size = 64
    frame_channels: Size = 3
    horizon: Size = 20  # imagined steps
    burn_in: Few = 20  # real frames that fill the memory before
    gamma: Share = 0.995
    lambda_: Share = 0.95
    value: Weight = 1.0
    entropy: Weight = 0.001
    value_bins: Few = option(0)  # the critic learns returns as classes, of so many bins; 0: as a number
    value_reach: Positive = option(15.0)  # where the bins end, on both sides, in symlog space
    return_buffer: Kept = option(0)  # returns by whose spread advantages are divided; 0: they are not
    real_reward: Weight = option(1.0)  # what a told reward is worth while play is collected, to a curious actor
    curiosity: Weight = option(1.0)  # and what an ensemble's disagreement is

    def __post_init__(self) -> None:
        check(self, "actor_critic")
        if self.value_bins == 1:
            raise ValueError("actor_critic.value_bins is 1, which says nothing: give 2 or more, as 129")
        if not self.value_bins and self.value_reach != 15.0:
            raise ValueError("actor_critic.value_reach is of bins, and actor_critic.value_bins is 0: set it to 129")


@dataclass(frozen=True)
class ActorCriticConfig(ActorConfig):
    """The policy and its values, of pixels (arXiv 2209.00588, section 2.3 and appendix A.3)."""

    channels: tuple[Size, ...] = (32, 32, 64, 64)  # of convolutions, each of which halves the frame
    hidden: Size = 512  # of the LSTM

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels:
            raise ValueError("actor_critic.channels is empty: give a convolution or more, as (32, 32, 64, 64)")
        if self.horizon < 2:
            raise ValueError("actor_critic.horizon 1 leaves nothing to learn: a return needs the value of a later step")
        if self.resolution % 2 ** len(self.channels):
            raise ValueError(
                f"Frames of {self.resolution} pixels cannot be halved {len(self.channels)} times: give "
                "actor_critic.channels fewer convolutions"
            )


@dataclass(frozen=True)
class PlayedConfig(AgentConfig):
    """A tokenizer, a world model that is played, and an actor-critic, whatever their kinds.

    frame: (H, W, C) of what it is shown. Where that is larger than the tokenizer's resolution it is resized by area;
    channels of the networks that see follow it. actions: the numbers, among the environment's, of the actions that the
    networks know, in their order, as a single game's released weights do; none: all `num_actions`, as they are
    numbered. Where they are given, num_actions of the networks follow. A family says which configs of a world model
    and an `ActorConfig` it takes: the first has `max_steps` and `num_actions`. shared: by part, which of both numbers
    it has.
    """

    frame: tuple[Size, Size, Size] = (64, 64, 3)
    actions: tuple[Few, ...] = ()
    tokenizer: Any = None
    world_model: Any = None
    actor_critic: Any = None

    shared: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "tokenizer": ("frame_channels",),
        "world_model": ("num_actions",),
        "actor_critic": ("frame_channels", "num_actions"),
    }

    def __post_init__(self) -> None:
        check(self, "networks")
        if len(self.frame) != 3 or min(self.frame[:2]) < self.tokenizer.resolution:
            raise ValueError(
                f"Frames of {self.frame} are smaller than the tokenizer's {self.tokenizer.resolution} pixels: lower "
                "tokenizer.resolution"
            )
        if len(set(self.actions)) < len(self.actions):
            raise ValueError(f"actions {self.actions} name one twice: give each once")
        known = {"frame_channels": self.frame[2]} | ({"num_actions": len(self.actions)} if self.actions else {})
        for part, names in self.shared.items():
            changes = {name: known[name] for name in names if name in known}
            object.__setattr__(self, part, replace(getattr(self, part), **changes))

    @property
    def takes(self) -> Takes:
        """Frames, and how many actions there must be, if it knows all; games are not told apart, and play may last."""
        return Takes(self.frame, actions=None if self.actions else self.actor_critic.num_actions)

    @property
    def values_states(self) -> bool:
        """By its critic."""
        return True

    @property
    def ranks_by_actor(self) -> bool:
        """Its world values no actions."""
        return True

    def length(self, objective: str) -> int | None:
        """The world model's context; what the policy burns in, and the frame from which it imagines."""
        lengths = {"world_model": self.world_model.max_steps, "actor_critic": self.actor_critic.burn_in + 1}
        return lengths.get(objective)

    def require_fit(self, length: int) -> None:
        """Raises ValueError where the networks do not fit each other. Segments are cut to what each asks for."""
        world, actor = self.world_model, self.actor_critic
        require_equal(
            ("tokenizer.resolution", self.tokenizer.resolution, "actor_critic.resolution", actor.resolution),
            ("world_model.num_actions", world.num_actions, "actor_critic.num_actions", actor.num_actions),
        )
        if world.max_steps < 2:
            raise ValueError(
                f"world_model.max_steps is {world.max_steps}: it could not foresee a frame, which follows a step; give "
                "2 or more"
            )


@dataclass(frozen=True)
class PracticeConfig(PlayedConfig):
    """A tokenizer of single frames, a world model of its tokens, an actor-critic, and the weights of the tokenizer's
    loss.
    """

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    weights: TokenizerWeights = field(default_factory=TokenizerWeights)
    meaning: ClassVar = {"tokenizer": MEANING, "world_model": ("heads",), "actor_critic": ("value_reach",)}

    lpips_sha256: str = option("")  # of a file with LPIPS weights; none leaves the perceptual term out
    lpips_file: str = manner("")  # where that file lies

    @property
    def outside(self) -> Mapping[str, tuple[str, str]]:
        """LPIPS weights, where they are wanted."""
        lpips = (self.lpips_file, self.lpips_sha256)
        return {"lpips": lpips} if any(lpips) else {}

    @property
    def left_out(self) -> str:
        """The perceptual term, without a file of its weights."""
        if self.weights.lpips and "lpips" not in self.outside:
            return "the perceptual term (lpips_file names no weights)"
        return ""

    @property
    def wants_mean_frame(self) -> bool:
        """For the weights of pixels that move."""
        return bool(self.weights.motion_gain)

    def discount(self, objective: str) -> float | None:
        """The tokenizer's frames come with returns where a value is learned from them."""
        return self.weights.returns_gamma if objective == "tokenizer" and self.weights.value else None

    def whole_batches(self, objective: str) -> str:
        """Where its codebook or the scale of advantages asks for them."""
        if objective == "actor_critic" and self.actor_critic.return_buffer:
            return (
                "advantages are divided by the spread of whole batches' returns: set it to 1 and take more ranks, or "
                "actor_critic.return_buffer=0"
            )
        return self.tokenizer.whole_batches if objective == "tokenizer" else ""

    def require_fit(self, length: int) -> None:
        """See `PlayedConfig`."""
        super().require_fit(length)
        weights, values = self.weights, self.tokenizer.value_layers
        if bool(weights.value) != bool(values):
            raise ValueError(
                f"weights.value is {weights.value} and tokenizer.value_layers {values}: a value is learned with both, "
                "or with neither"
            )
        terms = (weights.l1, weights.mse, weights.commitment, weights.value, "lpips" in self.outside and weights.lpips)
        actor = self.actor_critic
        if not self.world_model.ensemble and (actor.real_reward, actor.curiosity) != (1.0, 1.0):
            raise ValueError(
                "actor_critic.real_reward and curiosity weigh an ensemble's disagreement, and world_model.ensemble is "
                "0: set it to 4, or leave them 1"
            )
        if not any(terms):
            raise ValueError(
                "weights leave the tokenizer no term to learn from (lpips counts where lpips_file names its weights): "
                "set weights.l1, or another, above 0"
            )


def require_equal(*pairs: tuple[str, int, str, int]) -> None:
    """Raises ValueError where two numbers of a config differ that must not: (name, value, other name, its value)."""
    for name, value, other, found in pairs:
        if value != found:
            raise ValueError(f"{name} is {value} but {other} is {found}: they must be equal, set both")


BLOCK_TOKENIZER = TokenizerConfig(
    vocab_size=512,
    embed_dim=256,
    z_channels=256,
    channels=32,
    attention=False,
    norm_groups=8,
    downsample=(2, 2, 2),
    resolution=64,
    frame_channels=3,
    initial="uniform",
    stack="plain",
)
"""64 tokens a frame, of 256 numbers that the world model and the actor read as they are (arXiv 2402.05643, A.1)"""


@dataclass(frozen=True)
class BlockPracticeConfig(PracticeConfig):
    """Its world model reads blocks, and learns and imagines behind `world_model.context` of them; these count in the
    actor's horizon.
    """

    @property
    def imagined_steps(self) -> int:
        """Steps of a rollout: the context's last frame is its first, and no block beyond the horizon is read."""
        return int(self.actor_critic.horizon - self.world_model.context + 1)

    def length(self, objective: str) -> int | None:
        """The frames that the memory burns in on and the one from which it imagines, the context's among them."""
        if objective == "actor_critic":
            return int(max(self.actor_critic.burn_in + 1, self.world_model.context))
        return super().length(objective)

    def least(self, objective: str) -> int:
        """The context, and a block to learn or to imagine from."""
        return int(self.world_model.context + 1) if objective != "tokenizer" else 1

    def require_fit(self, length: int) -> None:
        """See `PlayedConfig`."""
        super().require_fit(length)
        world, horizon = self.world_model, self.actor_critic.horizon
        if not world.context < horizon <= world.max_steps:
            raise ValueError(
                f"actor_critic.horizon {horizon} is to hold a context of {world.context} and at least 2 imagined steps "
                f"in world_model.max_steps {world.max_steps}: give {world.context + 1} to {world.max_steps}"
            )


def check_blocks(world: Any) -> None:
    """Raises ValueError where heads or context of a world model of blocks do not fit its sizes."""
    if world.width % world.heads or (world.width // world.heads) % 8:
        raise ValueError(
            f"Width {world.width} in {world.heads} heads: give heads of a multiple of 8 numbers, as 256 in 4 heads"
        )
    if world.context >= world.max_steps:
        raise ValueError(
            f"world_model.context {world.context} leaves none of {world.max_steps} blocks to learn: lower it, or "
            "raise world_model.max_steps"
        )


def require_told(actor: Any) -> None:
    """Raises ValueError where an actor that is told of no actions is to forget some."""
    if not actor.action_inputs:
        without = "on an actor that is told of no actions: set actor_critic.action_inputs=true"
        require_unset(actor, "actor_critic", "burn_in_actions", without)


def require_halves(codes: int, layers: int) -> None:
    """Raises ValueError where codes of so many channels cannot be halved by each of an actor's layers."""
    if codes >> layers < 1:
        raise ValueError(f"tokenizer.embed_dim {codes} cannot be halved {layers} times: lower actor_critic.layers")
