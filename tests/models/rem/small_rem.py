"""A REM so small that it learns in no time, and segments for it."""

from dataclasses import replace
from typing import Any

import torch

from models.api import Batch
from models.rem.config import TOKENIZER, RemActorConfig, RemConfig, WorldModelConfig

STEPS, BURN_IN = 5, 3
CONFIG = RemConfig(
    frame=(32, 32, 3),
    tokenizer=replace(TOKENIZER, vocab_size=16, embed_dim=16, z_channels=16, channels=4, norm_groups=2, resolution=32),
    world_model=WorldModelConfig(STEPS, 2, 2, 16, 0.0, 2, num_actions=5),
    actor_critic=RemActorConfig(hidden=8, num_actions=5, resolution=32, horizon=STEPS, burn_in=BURN_IN),
)
LEGAL = torch.tensor([[True] * 5, [True, False, True, False, False]])


def world(**changes: Any) -> RemConfig:
    """With other numbers of the world model."""
    return replace(CONFIG, world_model=replace(CONFIG.world_model, **changes))


def actor(**changes: Any) -> RemConfig:
    """With other numbers of the actor-critic."""
    return replace(CONFIG, actor_critic=replace(CONFIG.actor_critic, **changes))


PIXELS = actor(kind="pixels", channels=(4, 4), action_inputs=False)
VARIANTS = {
    "rem": CONFIG,
    "no pop": world(pop=False),
    "separate embeddings": world(shared_embeddings=False),
    "shared prediction token": world(shared_prediction_token=True),
    "no action inputs": actor(action_inputs=False),
    "gru": actor(rnn="gru"),
    "pixels": PIXELS,
}


def segments(rows: int = 5, steps: int = STEPS, side: str = "right") -> Batch:
    """Random ones, the second of which is a step short on one side."""
    draws = torch.Generator().manual_seed(1)
    mask_BT = torch.ones(rows, steps, dtype=torch.bool)
    mask_BT[1, 0 if side == "left" else -1] = False
    return Batch(
        actions_BT=torch.randint(5, (rows, steps), generator=draws),
        rewards_BT=torch.randint(-9, 9, (rows, steps), generator=draws).float(),
        ends_BT=torch.zeros(rows, steps),
        mask_BT=mask_BT,
        games_B=torch.arange(rows) % 2,
        frames_BTCHW=torch.randint(0, 256, (rows, steps, 3, 32, 32), dtype=torch.uint8, generator=draws),
    )
