"""What is compiled decides as the plain way does; the eager backend stands in for a GPU's."""

import pytest
import torch

from models.api import Context, WorldModel
from models.blocks.transformer import KVCache
from models.jowa.compiled import CompiledWorld, GrowingSpans, PowersOfTwo
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam, Greedy
from models.planning.mcts import Mcts
from tests.models.jowa.test_world import make_context
from tests.models.planning.table_world import ACTIONS, GAMMA, TableWorld, context


@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_a_compiled_world_decides_alike(model: Jowa, backend: str) -> None:
    """Trees that branch, and grow beyond their memory; on the slow backend with other rows and planners too."""
    torch._dynamo.reset()
    whole = backend != "eager"
    plain, compiled = JowaWorld(model), CompiledWorld(model, backend)
    legal_NA = torch.ones(3, 18, dtype=torch.bool)
    for rows in (3, 2) if whole else (3,):
        few = make_context(model, rows)
        for planner in (Beam(3, 2), Mcts(simulations=9, horizon=3)) if whole else (Beam(3, 2),):
            ours, theirs = (planner.plan(world, few, legal_NA[:rows], 0.99) for world in (compiled, plain))
            assert ours.tolist() == theirs.tolist()
    actions, parents = torch.arange(2 * rows), torch.zeros(2 * rows, dtype=torch.long)
    for again in range(2):
        here, expected = (world.step(actions, parents + again) for world in (compiled, plain))
        torch.testing.assert_close(here.values_NA, expected.values_NA, rtol=1e-4, atol=1e-4)
        assert torch.equal(here.tokens_NK, expected.tokens_NK) and torch.equal(here.rewards_N, expected.rewards_N)


def test_environments_are_planned_in_powers_of_two_and_cut_again() -> None:
    asked: list[list[int]] = []

    class Counting(Greedy):
        def plan(self, world: WorldModel, context: Context, legal_NA: torch.Tensor, gamma: float) -> torch.Tensor:
            asked.append(context.games_N.tolist())
            return super().plan(world, context, legal_NA, gamma)

    for rows, padded in ((1, [0]), (2, [0, 1]), (3, [0, 1, 2, 2]), (5, [0, 1, 2, 3, 4, 4, 4, 4])):
        legal_NA = torch.ones(rows, ACTIONS, dtype=torch.bool)
        ours = PowersOfTwo(Counting()).plan(TableWorld(0), context(*range(rows)), legal_NA, GAMMA)
        assert torch.equal(ours, Greedy().plan(TableWorld(0), context(*range(rows)), legal_NA, GAMMA))
        assert asked[-1] == padded
    assert PowersOfTwo(Beam(2, 3)).horizon == 3


def test_only_spans_that_have_no_token_yet_are_read() -> None:
    cache = KVCache.empty((1, 1, 2, 8, 4), torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match="No spans grow here"):
        GrowingSpans.first(cache)
    cache.branch(torch.tensor([[0, 0]]), 2)
    assert GrowingSpans.first(cache).slots_R.tolist() == [0, 2]
    cache.advance(1)
    with pytest.raises(ValueError, match="1 tokens of them were read already"):
        GrowingSpans.first(cache)
