"""The original's order of calls against the planners that play: without dropout and faults they are one."""

import math

import pytest
import torch

from models.api import Context
from models.jowa.model import Jowa
from models.jowa.recorded_plans import Node, Original, Tree, beam_search, tree_search
from models.jowa.world import JowaWorld, context_tokens
from models.planning.beam import Beam
from models.planning.mcts import Mcts

LEGAL = torch.zeros(1, 18, dtype=torch.bool)
LEGAL[0, [0, 3, 4, 11]] = True


def context(seed: int) -> Context:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(20, (1, 2, 4), generator=generator)
    return Context(tokens, torch.randint(18, (1, 1), generator=generator), torch.tensor([2]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "planner",
    [
        Beam(1, 1),
        Beam(3, 3),
        Beam(9, 2),
        Mcts(simulations=7, horizon=3),
        Mcts(simulations=12, horizon=3, choice="visits", leaf="mean", temperature=0.5),
    ],
)
def test_without_faults_it_plays_alike(model: Jowa, planner: Beam | Mcts, seed: int) -> None:
    original, here = Original(model, torch.tensor([2]), LEGAL), context(seed)
    tokens_1L = context_tokens(here, 4)
    played = int(planner.plan(JowaWorld(model), here, LEGAL, model.config.gamma))
    if isinstance(planner, Mcts):
        assert tree_search(original, tokens_1L, planner, faults=False) == played
    else:
        [path] = beam_search(original, tokens_1L, planner.width, min(planner.width, 4), planner.horizon)
        assert path.actions[0] == played


def test_faults_need_depth_to_show(model: Jowa) -> None:
    """At horizon 2 no node below the root's children is imagined, and every cache that is used is the root's."""
    search = Mcts(simulations=6, horizon=2)
    for seed in range(4):
        original, tokens_1L = Original(model, torch.tensor([2]), LEGAL), context_tokens(context(seed), 4)
        assert tree_search(original, tokens_1L, search, faults=True) in LEGAL[0].nonzero()[:, 0].tolist()


def test_the_first_choice_is_a_tie_for_the_highest_legal_action() -> None:
    tree = Tree(gamma=0.9)
    tree.root.expand(torch.tensor([1.0, 5.0, 2.0, -math.inf]), temperature=1.0)
    path, action = tree.descend(depth=3)
    assert action == 2 and path == [tree.root, tree.root.children[2]]


def test_values_are_backed_up_discounted_with_rewards() -> None:
    tree = Tree(gamma=0.5)
    leaf = Node(prior=0.3, reward=1.0)
    tree.back_up([tree.root, leaf], value=4.0)
    assert (leaf.value(), tree.root.value()) == (4.0, 3.0)
    assert (tree.low, tree.high) == (3.0, 4.0)
