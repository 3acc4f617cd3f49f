"""The plain way of an update of REM's world model makes the same outputs and gradients as ours."""

from dataclasses import replace

import pytest
import torch

from models.rem.config import RemConfig
from models.rem.world_model import WorldModel
from pipelines.tools.bench.imagine_rem_update import ours, plainly, segments, update_rows, world_loss
from tests.models.rem.small_rem import CONFIG


@pytest.mark.parametrize("per_chunk", [1, 2, 3, 9])
def test_both_ways_make_the_same_outputs_and_gradients(per_chunk: int) -> None:
    """In float64; the last chunk may be a shorter one."""
    config = replace(CONFIG, world_model=replace(CONFIG.world_model, blocks_per_chunk=per_chunk, layers=3))
    model = WorldModel(config.world_model, config.tokenizer, seed=1).double().eval()
    codes = torch.randn(16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    batch, found = segments(config, 3), []
    assert batch.tokens_BTK is not None
    for forward in (plainly, ours):
        model.zero_grad(set_to_none=True)
        world_loss(model, forward, codes, batch).backward()
        with torch.no_grad():
            outputs = forward(model, batch.tokens_BTK, batch.actions_BT, codes)
        gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        found.append((outputs, {name: each.clone() for name, each in gradients.items()}))
    (plain, theirs), (fused, mine) = found
    for name in ("hidden_BLD", "observations_BSV", "rewards_BTV", "ends_BT2"):
        torch.testing.assert_close(getattr(fused, name), getattr(plain, name), atol=1e-12, rtol=1e-12)
    assert mine.keys() == theirs.keys()
    for name, gradient in mine.items():
        # Losses are float32.
        torch.testing.assert_close(gradient, theirs[name], atol=1e-6, rtol=1e-4)


def test_a_row_says_that_both_lose_the_same() -> None:
    row = update_rows(small(), 2, 1)[0]
    assert row.name == "rem-update" and row.ratio > 0 and "2 segments x 5 blocks, float32" in row.what
    assert row.conditions[0][1] and "the same within 1e-05" in row.conditions[0][0]


def small() -> RemConfig:
    """With dropout, which the comparison of losses leaves out."""
    return replace(CONFIG, world_model=replace(CONFIG.world_model, dropout=0.1))
