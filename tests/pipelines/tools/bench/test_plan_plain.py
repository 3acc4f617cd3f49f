"""The plain planners against those that play: they share no line, and choose alike."""

import math
from dataclasses import replace

import pytest
import torch

from models.api import Context
from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam
from models.planning.mcts import Mcts
from models.tokenizers.vq import Tokenizer
from pipelines.tools.bench.plan import QUICK
from pipelines.tools.bench.plan_plain import EveryHead, Node, PlainWorld, Tree, copied, plan

LEGAL = torch.zeros(1, 18, dtype=torch.bool)
LEGAL[0, [0, 3, 4, 11]] = True


@pytest.fixture(scope="module")
def model() -> Jowa:
    """Weights are large enough that actions and tokens differ from input to input."""
    config = JowaConfig(
        vocab_size=20, tokens_per_frame=4, max_steps=5, layers=2, heads=2, width=16, num_q=2, q_hidden=12, num_games=3
    )
    model, generator = Jowa(config, seed=1).eval(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(replace(QUICK.tokenizer, vocab_size=20)).eval()


def context(seed: int) -> Context:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(20, (1, 2, 4), generator=generator)
    return Context(tokens, torch.randint(18, (1, 1), generator=generator), torch.tensor([2]))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
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
def test_both_plan_alike(model: Jowa, tokenizer: Tokenizer, planner: Beam | Mcts, seed: int) -> None:
    ours = planner.plan(JowaWorld(model), context(seed), LEGAL, model.config.gamma)
    theirs = plan(EveryHead(model), tokenizer, planner, context(seed), LEGAL)
    assert ours.tolist() == theirs.tolist()


@torch.no_grad()
def test_copied_rows_go_on_as_if_they_had_been_alone(model: Jowa, tokenizer: Tokenizer) -> None:
    world = PlainWorld(EveryHead(model), tokenizer, torch.tensor([2]), LEGAL)
    _, cache = world.reset(torch.tensor([[1, 2, 3, 4]]))
    values_MA, rewards_M, tokens_MK = world.step(torch.tensor([0, 3, 0]), copied(cache, torch.tensor([0, 0, 0])))
    assert cache.length == 4  # the source is as it was
    assert torch.equal(tokens_MK[0], tokens_MK[2]) and rewards_M[0] == rewards_M[2]
    alone_1A, _, tokens_1K = world.step(torch.tensor([3]), copied(cache, torch.tensor([0])))
    torch.testing.assert_close(values_MA[1], alone_1A[0])
    assert torch.equal(tokens_MK[1], tokens_1K[0])


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
