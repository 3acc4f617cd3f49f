"""Delta-IRIS's actor and critic on frames: convolutions, an LSTM and a linear head each; and a slow copy of both.

The copy's values are what returns and advantages are made of. Parameters have the released checkpoints' names, but for
the convolutions' (`state_dict.py`). Source: arXiv 2406.19320, section 3.3 and appendix A.3.

Shapes: N rows, C channels of R x R pixels, S hidden units, A actions, V points of a value or 1.
"""

import copy

import torch
from torch import Tensor, nn

from models.blocks.layers import initialise_uniform
from models.delta_iris.config import POINTS, DeltaActorConfig
from models.delta_iris.frame_networks import Flat, FrameEncoder
from models.delta_iris.numbers import points
from models.losses.binned import expected_value
from models.practice.actor_critic import Actor, Judgement, Memory


class FrameActor(Actor):
    """It sees frames (C, R, R) in [0, 1]. First values are 0."""

    config: DeltaActorConfig

    def __init__(self, config: DeltaActorConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config, self.bins, self.return_scale = config, None, None
        grid = config.resolution // config.frame_cnn.stride
        self.cnn = nn.Sequential(FrameEncoder(config.frame_cnn, config.frame_channels), Flat())
        self.lstm = nn.LSTMCell(config.frame_cnn.latent * grid**2, config.hidden)
        self.actor_linear = nn.Linear(config.hidden, config.num_actions)
        self.critic_linear = nn.Linear(config.hidden, 1 if config.values == "mean" else POINTS)
        initialise_uniform(self, generator)
        nn.init.zeros_(self.critic_linear.weight)
        nn.init.zeros_(self.critic_linear.bias)

    def remember(self, seen_NX: Tensor, memory: Memory) -> Memory:
        """See `Actor`."""
        return Memory(self.lstm(self.cnn(seen_NX), tuple(memory)))

    def values(self, critic: Tensor) -> Tensor:
        """Expected returns (...) of the critic's outputs (..., V)."""
        return critic[..., 0] if self.config.values == "mean" else expected_value(critic, points(critic.device))

    def forward(self, seen_NX: Tensor, memory: Memory) -> Judgement:
        """See `Actor`; the critic's output is told whatever it means."""
        memory = self.remember(seen_NX, memory)
        critic_NV = self.critic_linear(memory.hidden).float()
        return Judgement(self.actor_linear(memory.hidden).float(), self.values(critic_NV), memory, critic_NV)


class ActorCritic(nn.Module):
    """`model` learns and plays; `target_model` follows it. `seed` fixes the first weights, of both alike."""

    def __init__(self, config: DeltaActorConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.model = FrameActor(config, torch.Generator().manual_seed(seed))
        self.target_model = copy.deepcopy(self.model).requires_grad_(False)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """The target's weights move towards the model's by 1 - decay."""
        pairs = zip(self.target_model.parameters(), self.model.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - decay)
