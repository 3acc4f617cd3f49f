"""The best legal action by the model's own values: no imagination, one pass through the context."""

from dataclasses import dataclass

from torch import Tensor

from models.api import Context, WorldModel
from models.planning.values import masked_values


@dataclass(frozen=True)
class Greedy:
    """Looks no step ahead."""

    horizon: int = 0

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """Actions (N,) long. Raises ValueError for legal actions that do not fit the context."""
        return masked_values(world.reset(context).values_NA, legal_NA).argmax(1)
