"""The formula counts what PyTorch counts."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.loss import world_action_loss
from models.jowa.model import Jowa
from pipelines.tools.bench.flops import stage_2_flops

BASE = JowaConfig(vocab_size=32, tokens_per_frame=4, max_steps=3, layers=2, heads=2, width=16, q_hidden=24, num_q=3)


@pytest.mark.parametrize(
    "config", [BASE, replace(BASE, q_trains_trunk=False), replace(BASE, critic="mse", layers=1, num_q=1)]
)
def test_a_step_has_as_many_as_are_counted_while_it_runs(config: JowaConfig) -> None:
    shape = (5, config.max_steps)
    batch = Batch(
        actions_BT=torch.zeros(shape, dtype=torch.long),
        rewards_BT=torch.zeros(shape),
        ends_BT=torch.zeros(shape, dtype=torch.bool),
        mask_BT=torch.ones(shape, dtype=torch.bool),
        games_B=torch.zeros(5, dtype=torch.long),
        tokens_BTK=torch.zeros(*shape, config.tokens_per_frame, dtype=torch.long),
    )
    legal_GA = torch.ones(config.num_games, config.num_actions, dtype=torch.bool)
    model = Jowa(config).train()
    counter = FlopCounterMode(display=False)
    with counter, torch.autocast("cpu", torch.bfloat16):  # float32 goes through oneDNN, which the counter does not know
        world_action_loss(model, batch, legal_GA).total.backward()
    assert stage_2_flops(config, 5) == counter.get_total_flops()


def test_by_hand() -> None:
    """One layer, width 2, a frame of one token, one step: 2 tokens."""
    config = JowaConfig(
        vocab_size=5, tokens_per_frame=1, max_steps=1, layers=1, heads=1, width=2, q_hidden=3, num_q=1, num_actions=2,
        atoms=2,
    )  # fmt: skip
    trunk = 2 * (2 * 12 * 4) + 2 * (2 * 2 * 2 * 2)  # 2 tokens, 12 D^2 weights; two products of 2 x 2 x 2
    heads = 2 * (4 + 2 * 5) + 2 * (4 + 2 * 3) + 2 * (4 + 2 * 2)
    q = 2 * (2 * 3 + 3 * 3 + 3 * 4)
    assert stage_2_flops(config, 1) == 3 * (trunk + heads + q) + q
