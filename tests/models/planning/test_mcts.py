import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.api import Context
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.gumbel import Gumbel
from models.planning.mcts import Mcts
from tests.models.planning.table_world import ACTIONS, GAMMA, Path, TableWorld, context

SEARCHES = [
    Mcts(),
    Mcts(simulations=1),
    Mcts(simulations=20),
    Mcts(simulations=25, horizon=4, temperature=0.5),
    Mcts(simulations=15, horizon=3, leaf="mean"),
    Mcts(simulations=15, horizon=3, leaf="mean", choice="visits"),
    Mcts(simulations=9, horizon=1, choice="visits", temperature=3.0),
]


def search_slowly(world: TableWorld, row: int, search: Mcts, legal: list[int]) -> int:
    """One environment's search in dictionaries by path; every simulation asks the world anew."""
    visits: dict[Path, int] = {}
    totals: dict[Path, float] = {}
    reward: dict[Path, float] = {}
    bounds: list[float] = []
    root = (1000 + row,)

    def priors(path: Path) -> dict[int, float]:
        values = world.look_up(path)[1]
        exponents = {action: math.exp(float(values[action]) / search.temperature) for action in legal}
        return {action: exponent / sum(exponents.values()) for action, exponent in exponents.items()}

    def score(path: Path, action: int) -> float:
        parent, child = visits.get(path, 0), (*path, action)
        c = math.log((parent + 19652 + 1) / 19652) + 1.25
        bonus = math.sqrt(parent) * c * priors(path)[action] / (1 + visits.get(child, 0))
        if child not in visits:
            return bonus
        value = reward[child] + GAMMA * totals[child] / visits[child]
        low, high = min(bounds), max(bounds)
        return bonus + ((value - low) / (high - low) if high > low else value)

    for _ in range(search.budget):
        path = root
        while len(path) - 1 < max(1, search.horizon - 1):
            path = (*path, max(legal, key=lambda action, path=path: (score(path, action), action)))  # type: ignore[misc]
            if path not in visits:
                break
        reward[path], values = world.look_up(path)
        leaves = [float(values[action]) for action in legal]
        value = max(leaves) if search.leaf == "max" else sum(leaves) / len(leaves)
        for end in range(len(path), 0, -1):
            node = path[:end]
            visits[node] = visits.get(node, 0) + 1
            totals[node] = totals.get(node, 0.0) + value
            bounds.append(totals[node] / visits[node])
            value = reward.get(node, 0.0) + GAMMA * value
    tried = [action for action in legal if (*root, action) in visits]

    def merit(action: int) -> float:
        child = (*root, action)
        return visits[child] if search.choice == "visits" else totals[child] / visits[child]

    return max(tried, key=lambda action: (merit(action), -action))


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("ahead", [1, 2, 12])
def test_batched_search_equals_simulations_one_by_one(search: Mcts, ahead: int) -> None:
    legal = [[0, 1], [0, 1, 2], [2]]
    legal_NA = torch.tensor([[action in actions for action in range(ACTIONS)] for actions in legal])
    for seed in range(8):
        world = TableWorld(seed)
        expected = [search_slowly(world, row, search, actions) for row, actions in enumerate(legal)]
        assert replace(search, ahead=ahead).plan(world, context(0, 1, 2), legal_NA, GAMMA).tolist() == expected, seed


def test_the_first_simulation_is_a_tie_that_goes_to_the_highest_legal_action() -> None:
    legal_NA = torch.tensor([[True, True, False]])
    assert Mcts(simulations=1).plan(TableWorld(0), context(0), legal_NA, GAMMA).tolist() == [1]


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=4), st.integers(0, 99), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_legal_actions_only(legal: list[set[int]], seed: int, simulations: int) -> None:
    legal_NA = torch.tensor([[action in actions for action in range(6)] for actions in legal])
    world, search = TableWorld(seed, actions=6), Mcts(simulations=simulations, horizon=1 + seed % 3, ahead=1 + seed % 5)
    chosen = search.plan(world, context(*range(len(legal))), legal_NA, GAMMA).tolist()
    assert all(action in actions for action, actions in zip(chosen, legal, strict=True))
    assert all(action in legal[path[0] - 1000] for path in world.asked for action in path[1:])


def test_no_step_is_imagined_twice_unless_it_is_to_be_drawn_again() -> None:
    legal_NA = torch.ones(1, ACTIONS, dtype=torch.bool)
    world = TableWorld(1)
    Mcts(simulations=50, horizon=2).plan(world, context(0), legal_NA, GAMMA)
    assert len(world.asked) == len(set(world.asked)) == ACTIONS
    world = TableWorld(1, draws=True)
    Mcts(simulations=50, horizon=2, resample=True, ahead=1).plan(world, context(0), legal_NA, GAMMA)
    assert len(world.asked) == 50


@pytest.mark.parametrize("search", [Mcts(simulations=4, gain="expected"), Gumbel(simulations=4, gain="expected")])
def test_trees_count_means_of_rewards_in_a_world_that_tells_none_of_its_root(model: Jowa, search: Mcts) -> None:
    seen = Context(torch.zeros(2, 2, 4, dtype=torch.long), torch.tensor([[1], [2]]), torch.tensor([0, 1]))
    assert JowaWorld(model).reset(seen).expected_N is None
    assert search.plan(JowaWorld(model), seen, torch.ones(2, 18, dtype=torch.bool), 0.99).shape == (2,)


def test_environments_planned_together_are_planned_as_alone(model: Jowa) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (3, 2, 4), generator=generator)
    many = Context(tokens, torch.tensor([[1], [2], [3]]), torch.tensor([0, 1, 2]))
    legal_NA = torch.rand(3, 18, generator=generator) < 0.4
    legal_NA[:, 0] = True
    search = Mcts(simulations=12, horizon=3)
    together = search.plan(JowaWorld(model), many, legal_NA, 0.99)
    for row in range(3):
        one = Context(tokens[row : row + 1], many.actions_NC[row : row + 1], many.games_N[row : row + 1])
        assert search.plan(JowaWorld(model), one, legal_NA[row : row + 1], 0.99).tolist() == [int(together[row])]


def test_budgets_follow_the_beam_and_numbers_that_cannot_be_are_refused() -> None:
    assert Mcts(width=4, horizon=3).budget == 36 and Mcts(simulations=7).budget == 7
    for wrong in ({"simulations": 0}, {"horizon": 0}, {"temperature": 0.0}, {"temperature": math.inf}, {"ahead": 0}):
        with pytest.raises(ValueError, match=r"at least 1|above 0"):
            Mcts(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="choose from value, visits"):
        Mcts(choice="luck")  # type: ignore[arg-type]
