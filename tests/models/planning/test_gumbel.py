"""Gumbel search against one written in dictionaries, and what sequential halving and completed values promise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.planning.gumbel import Gumbel, completed_merits, halving
from models.planning.mcts import Node, Outcome
from tests.models.planning.table_world import ACTIONS, GAMMA, Path, TableWorld, context

SEARCHES = [
    Gumbel(simulations=1),
    Gumbel(simulations=6, width=2, horizon=1),
    Gumbel(simulations=16, width=3, horizon=3),
    Gumbel(simulations=20, width=2, horizon=4, temperature=0.5, leaf="mean"),
]


def search_slowly(world: TableWorld, row: int, search: Gumbel, legal: list[int]) -> int:
    """One environment's search in dictionaries by path; every simulation asks the world anew."""
    visits: dict[Path, int] = {}
    totals: dict[Path, float] = {}
    root = (1000 + row,)

    def priors(path: Path) -> dict[int, float]:
        exponents = {action: math.exp(float(world.look_up(path)[1][action]) / search.temperature) for action in legal}
        return {action: exponent / sum(exponents.values()) for action, exponent in exponents.items()}

    def worth(path: Path) -> float:
        values = [float(world.look_up(path)[1][action]) for action in legal]
        return max(values) if search.leaf == "max" else sum(values) / len(values)

    def merits(path: Path) -> dict[int, float]:
        tried = [action for action in legal if (*path, action) in visits]
        count, prior = sum(visits[(*path, action)] for action in tried), priors(path)
        q = {
            action: world.look_up((*path, action))[0] + GAMMA * totals[(*path, action)] / visits[(*path, action)]
            for action in tried
        }
        mean = sum(prior[action] * q[action] for action in tried) / sum(prior[action] for action in tried) if q else 0
        mixed = (worth(path) + count * mean) / (1 + count)
        whole = {action: q.get(action, mixed) for action in legal}
        low, high = min(whole.values()), max(whole.values())
        most = max((visits[(*path, action)] for action in tried), default=0)
        return {
            action: math.log(prior[action])
            + (50 + most) * 0.1 * ((whole[action] - low) / (high - low) if high > low else 0)
            for action in legal
        }

    def below(path: Path) -> int:
        found = merits(path)
        total = sum(math.exp(merit) for merit in found.values())
        count = sum(visits.get((*path, action), 0) for action in legal)
        behind = {a: math.exp(found[a]) / total - visits.get((*path, a), 0) / (1 + count) for a in legal}
        return max(legal, key=lambda action: (behind[action], action))

    def at_root(turn: int) -> int:
        able = [action for action in considered if visits.get((*root, action), 0) == turn]
        found = merits(root)
        return max(able, key=lambda action: (found[action], action))

    considered = sorted(legal, key=lambda action: -priors(root)[action])[: min(search.width, search.budget)]
    for turn in halving(len(considered), search.budget):
        path: Path = (*root, at_root(turn))
        while path in visits and len(path) - 1 < search.horizon:
            path = (*path, below(path))
        value = worth(path)
        for end in range(len(path), 1, -1):
            node = path[:end]
            visits[node], totals[node] = visits.get(node, 0) + 1, totals.get(node, 0.0) + value
            value = world.look_up(node)[0] + GAMMA * value
    most, found = max(visits.get((*root, action), 0) for action in legal), merits(root)
    return max((action for action in legal if visits.get((*root, action), 0) == most), key=lambda action: found[action])


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("ahead", [1, 12])
def test_batched_search_equals_simulations_one_by_one(search: Gumbel, ahead: int) -> None:
    legal = [[0, 1], [0, 1, 2], [2]]
    legal_NA = torch.tensor([[action in actions for action in range(ACTIONS)] for actions in legal])
    for seed in range(8):
        world = TableWorld(seed)
        expected = [search_slowly(world, row, search, actions) for row, actions in enumerate(legal)]
        assert replace(search, ahead=ahead).plan(world, context(0, 1, 2), legal_NA, GAMMA).tolist() == expected, seed


@given(st.integers(1, 18), st.integers(1, 60))
def test_halving_asks_for_as_many_tries_as_there_are(considered: int, simulations: int) -> None:
    tries: list[int] = [0] * considered
    for turn in halving(considered, simulations):
        tries[tries.index(turn)] += 1  # there is always one whose turn it is
    assert sum(tries) == simulations
    assert simulations < considered or min(tries) >= 1


def test_halving_by_hand() -> None:
    # 16 simulations of 4 actions in 2 rounds: two each, then four each of the better two.
    assert halving(4, 16) == [0] * 4 + [1] * 4 + [2, 2, 3, 3, 4, 4, 5, 5]
    assert halving(1, 3) == [0, 1, 2] and halving(3, 2) == [0, 0]


def test_no_action_considered_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Gumbel(width=0)


def test_an_action_not_yet_tried_counts_as_the_mixed_value() -> None:
    node = Node(Outcome(0.0, 4.0, np.array([0.5, 0.25, 0.25]), np.array([True, True, True]), 0))
    assert completed_merits(node).tolist() == [0, 0, 0]
    node.visits_A[:2], node.returns_A[:2] = [2, 1], [1.0, 4.0]
    # The mean of those tried by their priors is 2; mixed (4 + 3 * 2) / 4 = 2.5, half way from 1 to 4; times 52 * 0.1.
    assert completed_merits(node).tolist() == pytest.approx([0, 5.2, 2.6])


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=4), st.integers(0, 99), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_legal_actions_only(legal: list[set[int]], seed: int, simulations: int) -> None:
    legal_NA = torch.tensor([[action in actions for action in range(6)] for actions in legal])
    world = TableWorld(seed, actions=6)
    search = Gumbel(simulations=simulations, width=1 + seed % 7, horizon=1 + seed % 3, ahead=1 + seed % 5)
    chosen = search.plan(world, context(*range(len(legal))), legal_NA, GAMMA).tolist()
    assert all(action in actions for action, actions in zip(chosen, legal, strict=True))
    assert all(action in legal[path[0] - 1000] for path in world.asked for action in path[1:])
