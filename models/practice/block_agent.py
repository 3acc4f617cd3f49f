"""What agents share whose world model reads whole blocks and whose actor sees the tokenizer's codes.

Imagination begins at the last of `world_model.context` real frames, with the actions between them; the model reads the
tokenizer's codes as they are, without gradient. A family says what its world model loses and how it is played.

Shapes: N rows, T steps, K tokens a frame, V codes of E numbers, C frames of context.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from models.api import Batch, Moment
from models.blocks.layers import decay_groups
from models.practice.agent import PracticeAgent
from models.practice.world import Player


class BlockAgent(PracticeAgent):
    """All three networks of a config of `BlockPracticeConfig`."""

    def codes(self) -> Tensor:
        """The tokenizer's codes (V, E) as the world model reads them: without gradient."""
        return self.tokenizer.table().detach()

    def see(self, tokens_NK: Tensor) -> Tensor:
        """Codes (N, E, h, w)."""
        return self.tokenizer.maps(tokens_NK)

    # ---- a family's own ----

    @abstractmethod
    def says(self, tokens_NTK: Tensor, actions_NT: Tensor) -> tuple[Tensor, ...]:
        """What the world model makes of whole segments, for a `probe`."""

    @property
    def steps_behind(self) -> int:
        """Frames between the context's last one and that at which the actor begins."""
        return 0

    @property
    def decays_too(self) -> tuple[str, ...]:
        """Names of the world model's parameters that decay beside its linear weights."""
        return ()

    # ---- learning ----

    def beginning(self, batch: Batch, moment: Moment) -> tuple[Player, Tensor, Tensor]:
        """See `PracticeAgent`: the player follows the context."""
        tokens_NTK, actions_NT = self.with_tokens(batch).tokens_BTK, self.own_actions(batch)
        assert tokens_NTK is not None
        last = tokens_NTK.shape[1] - self.steps_behind
        context = slice(last - self.config.world_model.context, last)
        # Where an episode has no such frame yet, it stood still before.
        shown_NCK = torch.where(batch.mask_BT[:, context, None], tokens_NTK[:, context], tokens_NTK[:, -1:])
        player = self.rewarding(moment)
        player.follow(shown_NCK, actions_NT[:, context.start : last - 1])
        return player, tokens_NTK, batch.mask_BT

    @property
    def tells_burn_in(self) -> bool:
        """Unless it is to forget them as the originals do."""
        config = self.config.actor_critic
        return bool(config.action_inputs and config.burn_in_actions)

    @property
    def imagined_steps(self) -> int:
        """See `BlockPracticeConfig`."""
        return int(self.config.imagined_steps)

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """AdamW; of the world model linear weights and those of `decays_too` decay, of the others everything."""
        if network == "world_model":
            groups = decay_groups(self.networks[network], weight_decay, also=self.decays_too)
        else:
            groups = [{"params": list(self.networks[network].parameters()), "weight_decay": weight_decay}]
        return torch.optim.AdamW, [{**group, "lr": lr} for group in groups]

    # ---- acting ----

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        """Latents and pictures of noise, what the world model says of two steps, and what the actor says of noise."""
        frames, tokens_NTK = self.noise()
        judged = self._actor(self.see(tokens_NTK[:, 0]), self._actor.fresh(2))
        return {
            "tokenizer": (self.tokenizer.encode(frames).z, self.tokenizer.decode_tokens(tokens_NTK[:, 0])),
            "world_model": self.says(tokens_NTK, torch.zeros_like(tokens_NTK[..., 0])),
            "actor_critic": (judged.logits_NA, judged.values_N),
        }
