"""REM as a `models.api.Agent`: see `PracticeAgent`; its actor sees the tokenizer's codes, or decoded frames.

Imagination begins at the last of `world_model.context` real frames, with the actions between them. Source: arXiv
2402.05643.

Shapes: N rows, T steps, K tokens a frame, E numbers of a code.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from models.api import Batch, Losses, Moment
from models.blocks.layers import decay_groups
from models.practice.agent import PracticeAgent
from models.practice.blocks import learned, learned_counts
from models.practice.loss import token_world_loss
from models.practice.world import Player
from models.rem.actor_critic import new_actor
from models.rem.config import RemConfig
from models.rem.family import REM
from models.rem.state_dict import NAMES
from models.rem.world import RemPlayer
from models.rem.world_model import WorldModel
from models.tokenizers.vq import Tokenizer


class RemAgent(PracticeAgent):
    """All three networks. `seed` fixes their first weights."""

    family: ClassVar = REM
    original: ClassVar = NAMES
    changeable: ClassVar = {
        "weights": ("l1", "mse", "lpips", "commitment", "encoder"),
        "actor_critic": ("horizon", "burn_in", "burn_in_actions", "gamma", "lambda_", "value", "entropy"),
    }
    config: RemConfig

    def __init__(self, config: RemConfig, seed: int = 0) -> None:
        self.world_model = WorldModel(config.world_model, config.tokenizer, seed=seed)
        self.actor_critic = new_actor(config.actor_critic, config.tokenizer, seed=seed)
        super().__init__(config, Tokenizer(config.tokenizer, seed=seed), self.world_model, self.actor_critic)

    def codes(self) -> Tensor:
        """The tokenizer's codes (V, E) as the world model reads them: without gradient."""
        return self.tokenizer.table().detach()

    def player(self) -> RemPlayer:
        """See `RemPlayer`."""
        return RemPlayer(self.world_model, self.codes)

    def see(self, tokens_NK: Tensor) -> Tensor:
        """Codes (N, E, h, w), or decoded frames (N, C, R, R) in [0, 1]."""
        if self.config.actor_critic.kind == "pixels":
            return self.tokenizer.decode_tokens(tokens_NK)
        return self.tokenizer.maps(tokens_NK)

    # ---- learning ----

    def world_counts(self, batch: Batch) -> Tensor:
        """See `learned_counts`."""
        return learned_counts(batch, self.config.world_model.context, self.tokens_per_frame)

    def world_loss(self, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """See `token_world_loss`; the context's blocks are not learned from."""
        with self._learning.autocast():
            outputs = self.world_model(batch.tokens_BTK, batch.actions_BT, self.codes())
        return token_world_loss(outputs, batch, learned(batch, self.config.world_model.context), counts)

    def beginning(self, batch: Batch, moment: Moment) -> tuple[Player, Tensor, Tensor]:
        """See `PracticeAgent`: the player follows the newest frames."""
        tokens_NTK, actions_NT = self.with_tokens(batch).tokens_BTK, self.own_actions(batch)
        assert tokens_NTK is not None
        first = tokens_NTK.shape[1] - self.config.world_model.context
        # Where an episode has no such frame yet, it stood still before.
        shown_NCK = torch.where(batch.mask_BT[:, first:, None], tokens_NTK[:, first:], tokens_NTK[:, -1:])
        self._player.follow(shown_NCK, actions_NT[:, first:-1])
        return self._player, tokens_NTK, batch.mask_BT

    @property
    def tells_burn_in(self) -> bool:
        """Unless it is to forget them as the original does."""
        config = self.config.actor_critic
        return bool(config.action_inputs and config.burn_in_actions)

    @property
    def imagined_steps(self) -> int:
        """See `RemConfig`."""
        return self.config.imagined_steps

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """AdamW; of the world model linear weights alone decay, of the others everything."""
        if network == "world_model":
            groups = decay_groups(self.world_model, weight_decay)
        else:
            groups = [{"params": list(self.networks[network].parameters()), "weight_decay": weight_decay}]
        return torch.optim.AdamW, [{**group, "lr": lr} for group in groups]

    # ---- acting ----

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        """Latents and pictures of noise, outputs of two steps, and what the actor says of noise."""
        frames, tokens_NTK = self.noise()
        outputs = self.world_model(tokens_NTK, torch.zeros_like(tokens_NTK[..., 0]), self.codes())
        judged = self.actor_critic(self.see(tokens_NTK[:, 0]), self.actor_critic.fresh(2))
        return {
            "tokenizer": (self.tokenizer.encode(frames).z, self.tokenizer.decode_tokens(tokens_NTK[:, 0])),
            "world_model": (outputs.hidden_BLD,),
            "actor_critic": (judged.logits_NA, judged.values_N),
        }
