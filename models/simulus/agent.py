"""Simulus as a `models.api.Agent`: see `PracticeAgent`; its actor sees the tokenizer's codes.

Imagination begins at the last of `world_model.context` real frames, with the actions between them. While play is
collected the actor is also rewarded for what the world model's ensemble disagrees about; once it has stopped, by the
predicted reward alone, and the ensemble learns no more. Source: arXiv 2502.11537.

Shapes: N rows, T steps, K tokens a frame, E numbers of a code.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Batch, Losses, Moment
from models.blocks.layers import decay_groups
from models.practice.agent import PracticeAgent
from models.practice.world import Player
from models.simulus.actor_critic import SimulusActor
from models.simulus.config import SimulusConfig
from models.simulus.family import SIMULUS
from models.simulus.loss import world_counts, world_loss
from models.simulus.state_dict import NAMES
from models.simulus.world import SimulusPlayer
from models.simulus.world_model import WorldModel
from models.tokenizers.vq import Tokenizer


class SimulusAgent(PracticeAgent):
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

    def codes(self) -> Tensor:
        """The tokenizer's codes (V, E) as the world model reads them: without gradient."""
        return self.tokenizer.table().detach()

    def player(self) -> SimulusPlayer:
        """See `SimulusPlayer`; its rewards are the game's."""
        return SimulusPlayer(self.world_model, self.codes)

    def see(self, tokens_NK: Tensor) -> Tensor:
        """Codes (N, E, h, w)."""
        return self.tokenizer.maps(tokens_NK)

    # ---- learning ----

    def curious(self, moment: Moment) -> bool:
        """Whether play is still collected, which curiosity could lead."""
        until = self._learning.plays_until
        return until is None or moment.step < until

    def world_counts(self, batch: Batch) -> Tensor:
        """See `models.simulus.loss.world_counts`."""
        return world_counts(batch, self.world_model)

    def world_loss(self, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """See `models.simulus.loss.world_loss`."""
        with self._learning.autocast():
            foreseen = self.world_model(batch.tokens_BTK, batch.actions_BT, self.codes())
            return world_loss(self.world_model, foreseen, batch, counts, moment, self.curious(moment))

    def beginning(self, batch: Batch, moment: Moment) -> tuple[Player, Tensor, Tensor]:
        """See `PracticeAgent`: the player follows the newest frames, or those before the newest as the original's."""
        tokens_NTK, actions_NT = self.with_tokens(batch).tokens_BTK, self.own_actions(batch)
        assert tokens_NTK is not None
        last = tokens_NTK.shape[1] - (not self.config.actor_critic.aligned)
        context = slice(last - self.config.world_model.context, last)
        # Where an episode has no such frame yet, it stood still before.
        shown_NCK = torch.where(batch.mask_BT[:, context, None], tokens_NTK[:, context], tokens_NTK[:, -1:])
        player, actor = self._player, self.config.actor_critic
        curious = self.curious(moment) and len(self.world_model.ensemble)
        player.worth = (actor.real_reward, actor.curiosity) if curious else None
        player.follow(shown_NCK, actions_NT[:, context.start : last - 1])
        return player, tokens_NTK, batch.mask_BT

    @property
    def tells_burn_in(self) -> bool:
        """Unless it is to forget them as the original does."""
        config = self.config.actor_critic
        return bool(config.action_inputs and config.burn_in_actions)

    @property
    def imagined_steps(self) -> int:
        """See `SimulusConfig`."""
        return self.config.imagined_steps

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """AdamW; of the world model linear weights and those of norms in heads decay, of the others everything."""
        if network == "world_model":
            groups = decay_groups(self.world_model, weight_decay, also=norms_of_heads(self.world_model))
        else:
            groups = [{"params": list(self.networks[network].parameters()), "weight_decay": weight_decay}]
        return torch.optim.AdamW, [{**group, "lr": lr} for group in groups]

    # ---- acting ----

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        """Latents and pictures of noise, outputs of two steps, and what the actor says of noise."""
        frames, tokens_NTK = self.noise()
        foreseen = self.world_model(tokens_NTK, torch.zeros_like(tokens_NTK[..., 0]), self.codes())
        judged = self.actor_critic(self.see(tokens_NTK[:, 0]), self.actor_critic.fresh(2))
        return {
            "tokenizer": (self.tokenizer.encode(frames).z, self.tokenizer.decode_tokens(tokens_NTK[:, 0])),
            "world_model": tuple(foreseen),
            "actor_critic": (judged.logits_NA, judged.values_N),
        }


def norms_of_heads(model: WorldModel) -> tuple[str, ...]:
    """Names of the weights of norms outside the backbone, which decay as the original's do."""
    norms = (name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm))
    return tuple(f"{name}.weight" for name in norms if not name.startswith(("attention.", "retnet.")))
