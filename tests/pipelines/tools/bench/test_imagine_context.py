"""Both sides that read a context know the same, or their ratio says nothing."""

import torch

from models.iris.config import WorldModelConfig
from models.iris.world import TokenPlayer
from models.iris.world_model import WorldModel
from pipelines.tools.bench.imagine_context import context_rows, step_by_step

SMALL = WorldModelConfig(vocab_size=32, tokens_per_frame=4, layers=2, heads=2, width=16, max_steps=5)


def test_both_sides_remember_the_same_from_as_many_passes_as_tokens_or_one() -> None:
    one, other = (TokenPlayer(WorldModel(SMALL, seed=1).eval()) for _ in range(2))
    tokens_NCK, actions_NC = torch.arange(40).view(2, 5, 4) % 32, torch.arange(8).view(2, 4)
    step_by_step(one, tokens_NCK, actions_NC)
    other.follow(tokens_NCK, actions_NC)
    assert one.remembered.steps == other.remembered.steps == 5
    assert (one.remembered.passes, other.remembered.passes) == (5, 1)
    assert torch.allclose(one.newest_ND, other.newest_ND, atol=1e-5)
    assert torch.allclose(one.memory.keys, other.memory.keys, atol=1e-5)


def test_there_is_a_row_for_each_number_of_rows() -> None:
    found = context_rows(SMALL, (1, 3), 1)
    assert [row.name for row in found] == ["context-1", "context-3"]
    assert all(row.reached and row.ratio > 0 for row in found)
