"""Simulus's configuration: sizes of its three networks and how they learn; the defaults are the published Atari ones.

Source: Cohen, Wang, Kang, Gadot, Mannor, "Uncovering Untapped Potential in Sample-Efficient World Model Agents", arXiv
2502.11537, with the numbers of its code since 2026 ("Simulus-A": attention and FSQ), which the original's results go
by. Learning rates, decay, clipping and the order of turns belong to the schedule. Imports no torch.
"""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from models.limits import Dropout, Few, Kept, Positive, Share, Size, Weight, check, require_unset
from models.practice.config import (
    BLOCK_TOKENIZER,
    OUTCOME,
    ActorConfig,
    BlockPracticeConfig,
    OutcomeConfig,
    check_blocks,
    require_halves,
    require_told,
)
from models.tokenizers.config import TokenizerConfig, TokenizerWeights

TOKENIZER = replace(BLOCK_TOKENIZER, channels=64, stack="strided", quantizer="fsq", fsq_levels=(8, 8, 8))
# Rewards are discounted returns divided by about 100 steps, whose own bins end at 15: symlog((e^15 - 1) / 100).
REWARD_REACH = math.log1p(math.expm1(15.0) / 100)


@dataclass(frozen=True)
class WorldModelConfig(OutcomeConfig):
    """Sizes of the sequence model over blocks of a frame's tokens and an action, and of its heads."""

    backbone: Literal["attention", "retnet"] = "attention"
    max_steps: Size = 10  # blocks of a segment: how far it learns to remember
    layers: Size = 10
    heads: Size = 4
    width: Size = 256
    dropout: Dropout = 0.1
    context: Size = 2  # blocks that are read before tokens are learned, and frames from which it imagines
    fastest: Positive = 4.0  # RetNet: blocks after which the first head's state has decayed by 1 / e, about
    slowest: Positive = 16.0  # and the last head's
    blocks_per_chunk: Size = 5  # RetNet: read in the parallel form together, which changes what it costs alone
    ensemble: Few = 4  # heads whose disagreement about the next frame makes the actor curious; 0: it is not
    reward_bins: Size = 129
    reward_reach: Positive = REWARD_REACH  # where they end, on both sides, in symlog space
    clip_rewards: bool = True  # rewards are learned by their signs, as in the original's Atari
    last_rewards: bool = True  # a segment's last block is learned from too; the original needs a frame behind it
    num_actions: Size = 18

    def __post_init__(self) -> None:
        check(self, "world_model")
        super().__post_init__()
        check_blocks(self)
        if self.backbone == "attention":
            without = "on world_model.backbone 'attention': set world_model.backbone=retnet"
            require_unset(self, "world_model", "fastest slowest blocks_per_chunk", without)
        if self.fastest > self.slowest:
            raise ValueError(
                f"world_model.fastest {self.fastest} is beyond world_model.slowest {self.slowest}: give blocks in order"
            )


@dataclass(frozen=True)
class SimulusActorConfig(ActorConfig):
    """The policy and its values, how they learn in imagination, and what rewards are worth to them there."""

    layers: Size = 2  # convolutions over codes, each of which halves the channels
    mlp: tuple[Size, ...] = (512,)  # linear layers behind them; the last is as wide as the memory
    separate: bool = False  # whether the critic has layers and a memory of its own
    action_inputs: bool = True  # whether the memory is told of the action that was done
    burn_in_actions: bool = True  # and, if it is, of those of burn-in, which the original leaves out
    aligned: bool = True  # the world model's context ends where the actor begins; the original's, a frame before
    real_reward: Weight = 1.0  # what a predicted reward is worth while play is collected
    curiosity: Weight = 1.0  # and what the ensemble's disagreement is
    horizon: Size = 10  # blocks of context and imagination together
    gamma: Share = 0.99
    value_bins: Few = 129
    return_buffer: Kept = 512_000  # of 500 rollouts of 128 rows and 8 steps

    def __post_init__(self) -> None:
        super().__post_init__()
        require_told(self)
        if not self.mlp:
            raise ValueError("actor_critic.mlp is empty: give a layer or more, as (512,)")

    @property
    def hidden(self) -> int:
        """Units of a memory."""
        return self.mlp[-1]


@dataclass(frozen=True)
class SimulusConfig(BlockPracticeConfig):
    """All three networks, and the weights of the tokenizer's loss."""

    meaning: ClassVar = BlockPracticeConfig.meaning | {
        "world_model": ("heads", "fastest", "slowest", *OUTCOME),
        "actor_critic": ("action_inputs", "value_reach"),
    }

    family: str = "simulus"
    tokenizer: TokenizerConfig = field(default_factory=lambda: TOKENIZER)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    actor_critic: SimulusActorConfig = field(default_factory=SimulusActorConfig)
    weights: TokenizerWeights = field(default_factory=lambda: TokenizerWeights(l1=0.0, mse=1.0, commitment=0.0))

    def length(self, objective: str) -> int | None:
        """See `BlockPracticeConfig`; a frame more where the context ends before the actor begins."""
        if objective == "actor_critic" and not self.actor_critic.aligned:
            return self.actor_critic.burn_in + self.world_model.context
        return super().length(objective)

    def require_fit(self, length: int) -> None:
        """See `BlockPracticeConfig`."""
        super().require_fit(length)
        actor = self.actor_critic
        if not actor.aligned and actor.burn_in < 1:
            raise ValueError(
                "actor_critic.aligned is false, which begins a frame behind the context: set actor_critic.burn_in to 1 "
                "or more"
            )
        require_halves(self.tokenizer.embed_dim, actor.layers)
        if self.tokenizer.quantizer == "fsq" and self.weights.commitment:
            raise ValueError(
                f"weights.commitment {self.weights.commitment} pulls latents to codes, and FSQ has none to learn: set "
                "it to 0"
            )
