"""Both sides of Delta-IRIS's benchmark imagine the same, also behind the steps that the world model remembers."""

from dataclasses import replace

import pytest
import torch

from models.api import Moment
from models.blocks.transformer import CausalAttention
from models.practice.draws import Sampled
from pipelines.tools.bench.imagine_delta import QUICK_DELTA, noise, ours, sides

ATARI = QUICK_DELTA.networks[0][1]
TWO_HOT = replace(ATARI, world_model=replace(ATARI.world_model, rewards="two_hot"))


@pytest.mark.parametrize("config", [ATARI, TWO_HOT], ids=["signs", "two-hot"])
def test_both_sides_imagine_the_same(config) -> None:
    plain, player = sides(config)
    frames, actions_NH = noise(config, 3, 7)  # the world model remembers 3 steps
    theirs, mine = (
        play(frames, actions_NH, Sampled(0, "bench", Moment(step=0)))
        for play in (plain.imagine, lambda *given: ours(player, *given))
    )
    assert torch.equal(mine.drawn, theirs.drawn)
    assert mine.drawn.shape == (3, 7 * (4 + 1 + (config.world_model.rewards == "sign")))
    torch.testing.assert_close(mine.rewards_NH, theirs.rewards_NH, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mine.frames, theirs.frames, atol=1.01 / 255, rtol=0)
    assert not any(isinstance(module, CausalAttention) for module in plain.model.modules())
