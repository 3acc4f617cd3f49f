"""Simulus's world model as a world: one step after another, for N rows at once. See `BlockPlayer`.

A step reads the frame in sight with the action and predicts the next frame in the same pass. Its tokens and the end are
drawn; the reward is what the head expects, and to a curious actor also how much the ensemble disagrees.

Shapes: N rows, K tokens a frame, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.practice.blocks import BlockPlayer
from models.practice.draws import Draw
from models.practice.outcome import worth_of
from models.practice.world import Step
from models.simulus.world_model import States, WorldModel


class SimulusPlayer(BlockPlayer[WorldModel]):
    """Plays a model, whose weights are read as they are at a `reset`, in autocast's type."""

    length = 0  # tokens that were read
    states: States
    latents_NKD: Tensor  # outputs of the newest prediction tokens

    def __init__(self, model: WorldModel, codes: Callable[[], Tensor]) -> None:
        super().__init__(model, codes)
        self.states = ()

    def forget(self, rows: int) -> None:
        """See `BlockPlayer`."""
        self.states, self.length = self.model.nothing_read(rows, self.states), 0

    def foresee(self, actions_N: Tensor, draw: Draw, observe: bool) -> Step:
        """See `BlockPlayer`: tokens are drawn where they are wanted, then the end."""
        model = self.model
        x_NLD = torch.cat([self.waiting_NLD, model.embed_actions(actions_N[:, None])], dim=1)
        self.latents_NKD, self.states = model.advance(x_NLD, self.states, self.length)
        self.length += x_NLD.shape[1]
        self.passes += 1
        tokens_NK = draw("tokens", model.head_observations(self.latents_NKD)) if observe else None
        if tokens_NK is not None:
            self.waiting_NLD = self.embedded(tokens_NK)
        ends_N = draw("ends", model.head_ends(self.latents_NKD[:, -1])).bool()
        return Step(self.rewards(), ends_N, tokens_NK)

    def rewards(self) -> Tensor:
        """Of the newest step (N,) float32."""
        rewards_N = self.model.bins.value(self.model.head_rewards(self.latents_NKD[:, -1]))
        return worth_of(self.model, rewards_N, self.latents_NKD, self.worth)
