import itertools

import pytest
import torch

from models.api import Context
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam, Greedy, Leaf, leaf_values, masked_values, plan, search
from tests.models.planning.table_world import ACTIONS, GAMMA, TableWorld, context

ALL = torch.ones(2, ACTIONS, dtype=torch.bool)


def test_greedy_play_takes_the_best_legal_action_and_imagines_nothing() -> None:
    world, legal_NA = TableWorld(1), torch.tensor([[False, True, True], [True, True, False]])
    actions = Greedy().plan(world, context(0, 1), legal_NA, GAMMA).tolist()
    for row, legal in enumerate(([1, 2], [0, 1])):
        values = world.look_up((1000 + row,))[1]
        assert len(values) == ACTIONS and actions[row] == max(legal, key=lambda action: float(values[action]))
    assert not world.asked


def test_leaves_are_worth_their_best_or_their_mean_over_legal_actions() -> None:
    values = torch.tensor([[1.0, -2.0, 5.0], [-3.0, -4.0, 9.0]])
    masked = masked_values(values, torch.tensor([[True, True, False], [False, True, False]]))
    assert leaf_values(masked, "max").tolist() == [1, -4]
    assert leaf_values(masked, "mean").tolist() == [-0.5, -4]


def test_masks_and_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one legal action"):
        masked_values(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="of the same shape"):
        masked_values(torch.zeros(1, 3), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="NaN"):
        masked_values(torch.tensor([[torch.nan]]), torch.ones(1, 1, dtype=torch.bool))


def score(world: TableWorld, path: tuple[int, ...], legal: list[int], leaf: str = "max") -> float:
    """sum_i gamma^i r_i + gamma^depth leaf value of a path whose first entry names the row."""
    rewards = [world.look_up(path[: end + 1])[0] for end in range(1, len(path))]
    values = [float(world.look_up(path)[1][action]) for action in legal]
    tail = max(values) if leaf == "max" else sum(values) / len(values)
    return sum(GAMMA**i * reward for i, reward in enumerate(rewards)) + GAMMA ** len(rewards) * tail


def search_slowly(world: TableWorld, row: int, beam: Beam, legal: list[int]) -> int:
    """The same search for one environment, path by path."""
    kept: list[tuple[int, ...]] = [(1000 + row,)]
    for _ in range(beam.horizon):
        children = []
        for path in kept:
            values = world.look_up(path)[1]
            best = sorted(legal, key=lambda action: -float(values[action]))[: beam.width]
            children += [(*path, action) for action in best]
        kept = sorted(children, key=lambda path: -score(world, path, legal, beam.leaf))[: beam.width]
    return kept[0][1]


@pytest.mark.parametrize("leaf", ["max", "mean"])
@pytest.mark.parametrize(("width", "horizon"), [(1, 1), (2, 1), (2, 2), (3, 3), (9, 2)])
def test_batched_search_equals_path_by_path_search(width: int, horizon: int, leaf: Leaf) -> None:
    legal_NA = torch.tensor([[True, True, False], [True, True, True]])
    for seed in range(20):
        world, beam = TableWorld(seed), Beam(width, horizon, leaf)
        expected = [search_slowly(world, 0, beam, [0, 1]), search_slowly(world, 1, beam, [0, 1, 2])]
        assert plan(world, context(0, 1), legal_NA, beam, GAMMA).tolist() == expected, seed


def test_a_wide_beam_finds_the_best_of_all_paths() -> None:
    for seed in range(20):
        world = TableWorld(seed)
        paths = [(1000, *actions) for actions in itertools.product(range(ACTIONS), repeat=2)]
        best = max(paths, key=lambda path: score(world, path, [0, 1, 2]))
        assert plan(world, context(0), ALL[:1], Beam(ACTIONS**2, 2), GAMMA).tolist() == [best[1]]


def test_a_search_returns_the_steps_of_its_best_path() -> None:
    world = TableWorld(5)
    path = search(world, context(0, 1), ALL, Beam(2, 3), GAMMA)
    for row in range(2):
        taken: tuple[int, ...] = (1000 + row,)
        for depth, action in enumerate(path.actions_NH[row].tolist()):
            taken = (*taken, action)
            assert path.rewards_NH[row, depth] == world.look_up(taken)[0]
            assert path.tokens_NHK[row, depth].tolist() == [hash(taken) % 1000]
        assert path.scores_N[row].item() == pytest.approx(score(world, taken, [0, 1, 2]), rel=1e-6)


def test_illegal_actions_are_never_played_though_all_values_are_negative() -> None:
    legal_NA = torch.tensor([[False, False, True], [False, True, True]])
    for seed in range(20):
        first, second = plan(TableWorld(seed), context(0, 1), legal_NA, Beam(3, 3), GAMMA).tolist()
        assert first == 2 and second in (1, 2)


def test_environments_planned_together_are_planned_as_alone(model: Jowa) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (4, 2, 4), generator=generator)
    many = Context(tokens, torch.tensor([[1], [2], [3], [4]]), torch.tensor([0, 1, 2, 0]))
    legal_NA = torch.rand(4, 18, generator=generator) < 0.4
    legal_NA[:, 0] = True
    together = plan(JowaWorld(model), many, legal_NA, Beam(3, 2), 0.99)
    for row in range(4):
        one = Context(tokens[row : row + 1], many.actions_NC[row : row + 1], many.games_N[row : row + 1])
        assert plan(JowaWorld(model), one, legal_NA[row : row + 1], Beam(3, 2), 0.99).tolist() == [int(together[row])]


def test_beams_and_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Beam(0, 2)
    with pytest.raises(ValueError, match="Legal actions"):
        plan(TableWorld(0), context(0, 1), ALL[:, :2], Beam(), GAMMA)
    with pytest.raises(ValueError, match="leaf 'median' is unknown"):
        Beam(leaf="median")  # type: ignore[arg-type]
