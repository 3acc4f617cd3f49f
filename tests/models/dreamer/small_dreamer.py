"""Agents of the Dreamer family so small that a test of all networks takes a moment, and segments for them."""

from dataclasses import replace
from typing import Any

import torch

from models.api import Moment
from models.dreamer.config import BehaviourConfig, DreamerConfig, WeightsConfig
from models.dreamer.world_model import Segments
from models.rssm.chance import Seeded
from models.rssm.config import (
    ActionEncoderConfig,
    BonusConfig,
    FramesConfig,
    HeadConfig,
    LatentActionConfig,
    RssmConfig,
)

SIDE, ACTIONS, ROWS, STEPS = 16, 2, 3, 6
SMALL: dict[str, Any] = {
    "frame": (SIDE, SIDE, 3),
    "actions": ACTIONS,
    "rssm": RssmConfig(deter=8, hidden=7, stoch=3, discrete=4),
    "frames": FramesConfig("resnet", SIDE, 4, stages=1, context_channels=4, heads=2),
    "latent_action": LatentActionConfig(width=3, hidden=5, channels=4),
    "action_encoder": ActionEncoderConfig(width=3, hidden=5),
    "heads": HeadConfig(1, 6),
    "ends_head": HeadConfig(1, 6),
    "behaviour": BehaviourConfig(HeadConfig(1, 6), HeadConfig(1, 6), horizon=3),
}
BONUS = BonusConfig(weight=1.0, neighbours=2, window=3, queue=20, width=4)
PAID: dict[str, Any] = {"bonus": BONUS, "weights": WeightsConfig(aux_reward=1.0), "split": True, "delay": 2}
CONFIGS = {
    "dreamerv2": DreamerConfig(**SMALL),
    "apv_pretrain": DreamerConfig(**SMALL, reads="nothing", room=5),
    "apv": DreamerConfig(**SMALL, **PAID, stacked=True, room=5, bonus_of="feature"),
    "naive": DreamerConfig(**SMALL, room=5, split=True, delay=2),
    "prelar_pretrain": DreamerConfig(**SMALL, reads="video", consistency="soft"),
    "prelar": DreamerConfig(**SMALL, **PAID, reads="encoded"),
}
CONTEXT = {  # two stages, of which the first looks at the context
    name: replace(CONFIGS[of], frames=replace(SMALL["frames"], kind="context", stages=2))
    for name, of in (("contextwm_pretrain", "apv_pretrain"), ("contextwm", "apv"))
}
CONFIGS |= CONTEXT
PRETRAINED = {
    "apv": "apv_pretrain",
    "naive": "apv_pretrain",
    "prelar": "prelar_pretrain",
    "contextwm": "contextwm_pretrain",
}


def draws(name: str = "test", step: int = 0) -> Seeded:
    return Seeded(0, name, Moment(step))


def segments(seed: int = 0, rows: int = ROWS, steps: int = STEPS) -> Segments:
    """Noise, one segment of which begins anew in its middle, behind an end."""
    draw = torch.Generator().manual_seed(seed)
    first_BT, ends_BT = (torch.zeros(rows, steps, dtype=torch.bool) for _ in range(2))
    first_BT[:, 0] = first_BT[1, 3] = ends_BT[1, 2] = True
    return Segments(
        torch.randint(256, (rows, steps, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8),
        first_BT,
        torch.rand(rows, steps, ACTIONS, generator=draw) * 2 - 1,
        torch.randn(rows, steps, generator=draw),
        ends_BT,
    )
