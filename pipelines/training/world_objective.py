"""What the transformer is trained on, wherever it learns: the world model's loss, or the world-action model's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.api import Batch, Losses
from models.jowa.loss import LossCounts, world_action_loss, world_loss
from models.jowa.model import Jowa
from models.losses.value_learning import mixture_weights
from pipelines.training.config import PhaseConfig


@dataclass(frozen=True)
class WorldObjective:
    """legal_GA: (60, 18) bool. `seed` decides about random mixtures of the Q heads."""

    model: Jowa
    legal_GA: Tensor
    seed: int

    def __call__(self, phase: PhaseConfig, batch: Batch, step: int, counts: LossCounts) -> dict[str, Losses]:
        """The loss that the phase names, by its name, on a batch with tokens; none where it names neither."""
        if "world_action" in phase.objectives:
            weights_Q = self._mixture_weights(step) if self.model.config.random_mixture else None
            return {"world_action": world_action_loss(self.model, batch, self.legal_GA, weights_Q, counts)}
        return {"world": world_loss(self.model, batch, counts)} if "world" in phase.objectives else {}

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        """Copy the Q head into the target head every `target_every` steps."""
        if (step + 1) % phase.target_every == 0:
            self.model.update_target()

    def _mixture_weights(self, step: int) -> Tensor:
        """This step's random mixture of the Q heads: it depends on the seed and the step alone."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return mixture_weights(self.model.config.num_q, generator).to(self.legal_GA.device)
