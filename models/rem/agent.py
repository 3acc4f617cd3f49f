"""REM as a `models.api.Agent`: see `BlockAgent`; its actor sees the tokenizer's codes, or decoded frames.

Source: arXiv 2402.05643. Shapes: N rows, T steps, K tokens a frame, E numbers of a code.
"""

from typing import ClassVar

from torch import Tensor

from models.api import Batch, Losses, Moment
from models.practice.block_agent import BlockAgent
from models.practice.blocks import learned, learned_counts
from models.practice.loss import token_world_loss
from models.practice.played import OTHER_HEADS
from models.rem.actor_critic import new_actor
from models.rem.config import RemConfig
from models.rem.family import REM
from models.rem.state_dict import NAMES
from models.rem.world import RemPlayer
from models.rem.world_model import WorldModel
from models.tokenizers.vq import Tokenizer


class RemAgent(BlockAgent):
    """All three networks. `seed` fixes their first weights."""

    family: ClassVar = REM
    original: ClassVar = NAMES
    beyond_original: ClassVar = (*OTHER_HEADS, ("world_model", "attention"))
    changeable: ClassVar = {
        "weights": ("l1", "mse", "lpips", "commitment", "encoder"),
        "actor_critic": (
            *("horizon", "burn_in", "burn_in_actions", "gamma", "lambda_", "value", "entropy"),
            *("real_reward", "curiosity"),
        ),
    }
    config: RemConfig

    def __init__(self, config: RemConfig, seed: int = 0) -> None:
        self.world_model = WorldModel(config.world_model, config.tokenizer, seed=seed)
        self.actor_critic = new_actor(config.actor_critic, config.tokenizer, seed=seed)
        super().__init__(config, Tokenizer(config.tokenizer, seed=seed), self.world_model, self.actor_critic)

    def player(self) -> RemPlayer:
        """See `RemPlayer`."""
        return RemPlayer(self.world_model, self.codes)

    def see(self, tokens_NK: Tensor) -> Tensor:
        """Codes (N, E, h, w), or decoded frames (N, C, R, R) in [0, 1]."""
        pixels = self.config.actor_critic.kind == "pixels"
        return self.tokenizer.decode_tokens(tokens_NK) if pixels else super().see(tokens_NK)

    def says(self, tokens_NTK: Tensor, actions_NT: Tensor) -> tuple[Tensor, ...]:
        """Its hidden states."""
        return (self.world_model(tokens_NTK, actions_NT, self.codes()).hidden_BLD,)

    # ---- learning ----

    def world_counts(self, batch: Batch) -> Tensor:
        """See `learned_counts`."""
        return learned_counts(batch, self.config.world_model.context, self.tokens_per_frame)

    def world_loss(self, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """See `token_world_loss`; the context's blocks are not learned from."""
        with self._learning.autocast():
            outputs = self.world_model(batch.tokens_BTK, batch.actions_BT, self.codes())
        learned_BT = learned(batch, self.config.world_model.context)
        return token_world_loss(outputs, batch, learned_BT, counts, **self.outcome_terms(moment))
