"""Simulus as a `models.api.Agent`: see `BlockAgent`; its actor sees the tokenizer's codes.

While play is collected the actor is also rewarded for what the world model's ensemble disagrees about; once it has
stopped, by the predicted reward alone, and the ensemble learns no more. Source: arXiv 2502.11537.

Shapes: N rows, T steps, K tokens a frame.
"""

from typing import ClassVar

from torch import Tensor, nn

from models.api import Batch, Losses, Moment
from models.practice.block_agent import BlockAgent
from models.simulus.actor_critic import SimulusActor
from models.simulus.config import SimulusConfig
from models.simulus.family import SIMULUS
from models.simulus.loss import world_counts, world_loss
from models.simulus.state_dict import NAMES
from models.simulus.world import SimulusPlayer
from models.simulus.world_model import WorldModel
from models.tokenizers.vq import Tokenizer


class SimulusAgent(BlockAgent):
    """All three networks. `seed` fixes their first weights."""

    family: ClassVar = SIMULUS
    original: ClassVar = NAMES
    last_entropy: ClassVar = True
    changeable: ClassVar = {
        "weights": ("mse", "l1", "lpips", "commitment", "encoder"),
        "actor_critic": (
            *("horizon", "burn_in", "burn_in_actions", "gamma", "lambda_", "value", "entropy"),
            *("real_reward", "curiosity", "aligned"),
        ),
    }
    config: SimulusConfig
    _player: SimulusPlayer

    def __init__(self, config: SimulusConfig, seed: int = 0) -> None:
        self.world_model = WorldModel(config.world_model, config.tokenizer, seed=seed)
        self.actor_critic = SimulusActor(config.actor_critic, config.tokenizer, seed=seed)
        super().__init__(config, Tokenizer(config.tokenizer, seed=seed), self.world_model, self.actor_critic)

    def player(self) -> SimulusPlayer:
        """See `SimulusPlayer`; its rewards are the game's."""
        return SimulusPlayer(self.world_model, self.codes)

    def says(self, tokens_NTK: Tensor, actions_NT: Tensor) -> tuple[Tensor, ...]:
        """Outputs of prediction tokens and of actions."""
        return tuple(self.world_model(tokens_NTK, actions_NT, self.codes()))

    @property
    def steps_behind(self) -> int:
        """None, or one as the original's."""
        return int(not self.config.actor_critic.aligned)

    @property
    def decays_too(self) -> tuple[str, ...]:
        """Weights of norms in heads, outside the backbone."""
        norms = (name for name, module in self.world_model.named_modules() if isinstance(module, nn.LayerNorm))
        return tuple(f"{name}.weight" for name in norms if not name.startswith(("attention.", "retnet.")))

    # ---- learning ----

    def world_counts(self, batch: Batch) -> Tensor:
        """See `models.simulus.loss.world_counts`."""
        return world_counts(batch, self.world_model)

    def world_loss(self, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """See `models.simulus.loss.world_loss`."""
        with self._learning.autocast():
            foreseen = self.world_model(batch.tokens_BTK, batch.actions_BT, self.codes())
            return world_loss(self.world_model, foreseen, batch, counts, moment, self.curious(moment))
