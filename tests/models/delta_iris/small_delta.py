"""Delta-IRIS so small that a test of all three networks takes a moment."""

import torch

from models.api import Batch
from models.delta_iris.config import (
    DeltaActorConfig,
    DeltaIrisConfig,
    DeltaTokenizerConfig,
    EncoderConfig,
    StackConfig,
    WorldModelConfig,
)

SIDE, ACTIONS, STEPS, BURN_IN = 16, 5, 4, 2
STACK = {"channels": 4, "mult": (1, 2), "down": (1, 1), "norm_groups": 2}
TOKENIZER = DeltaTokenizerConfig(
    vocab_size=16,
    code_dim=4,
    encoder=EncoderConfig(**STACK, latent=4),
    decoder=StackConfig(**STACK),
    frame_cnn=EncoderConfig(**STACK, latent=3),
    action_channels=2,
    resolution=SIDE,
    num_actions=ACTIONS,
)
WORLD = WorldModelConfig(
    max_steps=STEPS, layers=2, heads=2, width=16, frame_cnn=EncoderConfig(**STACK, latent=1), num_actions=ACTIONS
)
ACTOR = DeltaActorConfig(
    frame_cnn=EncoderConfig(**STACK, latent=2),
    hidden=8,
    num_actions=ACTIONS,
    resolution=SIDE,
    horizon=3,
    burn_in=BURN_IN,
)
CONFIG = DeltaIrisConfig(
    frame=(SIDE, SIDE, 3), tokenizer=TOKENIZER, world_model=WORLD, actor_critic=ACTOR, tokenizer_steps=STEPS
)
LEGAL = torch.ones(1, ACTIONS, dtype=torch.bool)


def segments(rows: int = 5, steps: int = STEPS, side: str = "both") -> Batch:
    """Segments of noise: the second row has padding, before its steps where side is "left", behind them otherwise."""
    draws = torch.Generator().manual_seed(1)
    mask_BT = torch.ones(rows, steps, dtype=torch.bool)
    mask_BT[1, 0 if side == "left" else -1] = False
    frames = torch.randint(0, 256, (rows, steps, 3, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    return Batch(
        actions_BT=torch.randint(0, ACTIONS, (rows, steps), generator=draws) * mask_BT,
        rewards_BT=torch.randint(-1, 2, (rows, steps), generator=draws).float() * mask_BT,
        ends_BT=torch.zeros(rows, steps, dtype=torch.long),
        mask_BT=mask_BT,
        games_B=torch.zeros(rows, dtype=torch.long),
        frames_BTCHW=frames * mask_BT[..., None, None, None],
    )
