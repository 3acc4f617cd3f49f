"""REM's configuration: sizes of its three networks and what their losses weigh; the defaults are the paper's.

Source: Cohen, Wang, Kang, Mannor, "Improving Token-Based World Models with Parallel Observation Prediction", arXiv
2402.05643, appendix A, with the numbers of its code where the paper is silent. Learning rates, decay, clipping and the
order of turns belong to the schedule. Imports no torch.
"""

from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from models.family import option
from models.limits import Dropout, Size, check, require_unset
from models.practice.config import (
    BLOCK_TOKENIZER,
    OUTCOME,
    ActorConfig,
    ActorCriticConfig,
    BlockPracticeConfig,
    OutcomeConfig,
    check_blocks,
    require_halves,
    require_told,
)
from models.tokenizers.config import TokenizerConfig, TokenizerWeights

TOKENIZER = BLOCK_TOKENIZER


@dataclass(frozen=True)
class WorldModelConfig(OutcomeConfig):
    """Sizes of the RetNet over blocks of a frame's tokens and an action, and how it predicts (section 2 and A.2).

    attention: in place of the RetNet, with rotary positions and a cache, as in Simulus (arXiv 2502.11537).
    """

    max_steps: Size = 10  # blocks of a segment: how far it learns to remember
    layers: Size = 5
    heads: Size = 4
    width: Size = 256
    dropout: Dropout = 0.1
    blocks_per_chunk: Size = 3  # read in the parallel form together: what it costs, not what comes out
    context: Size = 2  # blocks that are read before anything is learned, and frames from which it imagines
    shared_embeddings: bool = True  # observation tokens are the tokenizer's codes, or have rows of their own
    shared_prediction_token: bool = False  # one learned vector for all places of a frame, or one a place
    pop: bool = True  # all tokens of a frame at once, from prediction tokens; or one after another
    num_actions: Size = 18
    attention: bool = option(False)

    def __post_init__(self) -> None:
        check(self, "world_model")
        super().__post_init__()
        check_blocks(self)
        if self.attention:
            require_unset(
                self, "world_model", "pop", "on attention, which predicts whole frames: set world_model.attention=false"
            )
            require_unset(self, "world_model", "blocks_per_chunk", "on attention: set world_model.attention=false")
        if not self.pop:
            without = "without prediction tokens: set world_model.pop=true"
            require_unset(self, "world_model", "shared_prediction_token", without)


@dataclass(frozen=True)
class RemActorConfig(ActorConfig):
    """The policy and its values, and how they learn in imagination (section 2.4 and appendix A.3)."""

    kind: Literal["codes", "pixels"] = "codes"  # what it sees: the tokenizer's codes, or decoded frames as IRIS's does
    layers: Size = 2  # convolutions over codes, each of which halves the channels
    channels: tuple[Size, ...] = (32, 32, 64, 64)  # of convolutions over pixels, each of which halves the frame
    rnn: Literal["lstm", "gru"] = "lstm"
    hidden: Size = 512
    action_inputs: bool = True  # whether the memory is told of the action that was done
    burn_in_actions: bool = True  # and, if it is, of those of burn-in, which the original forgot
    horizon: Size = field(default=10, kw_only=True)  # blocks of context and imagination together

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "pixels" and (self.rnn != "lstm" or self.action_inputs):
            raise ValueError(
                "actor_critic.kind 'pixels' has an LSTM that is told of no actions: set actor_critic.rnn=lstm and "
                "actor_critic.action_inputs=false"
            )
        require_told(self)
        if self.kind == "pixels":
            require_unset(self, "actor_critic", "layers", "on pixels: set actor_critic.kind=codes")
            self.pixels  # noqa: B018, which raises for what makes no network
        else:
            require_unset(self, "actor_critic", "channels", "on codes: set actor_critic.kind=pixels")

    @property
    def pixels(self) -> ActorCriticConfig:
        """As the config of an actor on pixels."""
        shared = {each.name: getattr(self, each.name) for each in fields(ActorCriticConfig)}
        return ActorCriticConfig(**shared)


@dataclass(frozen=True)
class RemConfig(BlockPracticeConfig):
    """All three networks, and the weights of the tokenizer's loss."""

    family: str = "rem"
    tokenizer: TokenizerConfig = field(default_factory=lambda: TOKENIZER)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    actor_critic: RemActorConfig = field(default_factory=RemActorConfig)
    weights: TokenizerWeights = field(default_factory=lambda: TokenizerWeights(l1=0.0, mse=1.0))

    meaning: ClassVar = BlockPracticeConfig.meaning | {
        "world_model": ("heads", "shared_embeddings", "shared_prediction_token", "pop", "attention", *OUTCOME),
        "actor_critic": ("action_inputs", "value_reach"),
    }

    def require_fit(self, length: int) -> None:
        """See `BlockPracticeConfig`."""
        super().require_fit(length)
        world, codes = self.world_model, self.tokenizer.embed_dim
        if world.shared_embeddings and codes != world.width:
            raise ValueError(
                f"tokenizer.embed_dim {codes} cannot be read by a world model of width {world.width}: make them equal, "
                "or set world_model.shared_embeddings=false"
            )
        if self.actor_critic.kind == "codes":
            require_halves(codes, self.actor_critic.layers)
