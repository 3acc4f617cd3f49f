from dataclasses import dataclass

import pytest
import torch

from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Gain, Greedy, Leaf
from models.planning.rollouts import Rollouts
from tests.models.jowa.test_world import make_context
from tests.models.planning.table_world import ACTIONS, GAMMA, TableWorld, context


def plan_slowly(world: TableWorld, row: int, rollouts: Rollouts, legal: list[int]) -> int:
    """One environment, path by path."""

    def greedy(path: tuple[int, ...]) -> int:
        values = world.look_up(path)[1]
        return max(legal, key=lambda action: float(values[action]))

    root = (1000 + row,)
    values = world.look_up(root)[1]
    first = sorted(legal, key=lambda action: -float(values[action]))[: rollouts.width]
    scores = {}
    for action in first:
        path, worth = (*root, action), 0.0
        for depth in range(rollouts.horizon):
            worth += GAMMA**depth * (world.mean(path) if rollouts.gain == "expected" else world.look_up(path)[0])
            if depth < rollouts.horizon - 1:
                path = (*path, action if depth + 1 < rollouts.hold else greedy(path))
        tail = {
            "max": max(float(world.look_up(path)[1][each]) for each in legal),
            "mean": sum(float(world.look_up(path)[1][each]) for each in legal) / len(legal),
            "state": world.worth(path),
            "none": 0.0,
        }
        scores[action] = worth + GAMMA**rollouts.horizon * tail[rollouts.leaf]
    return max(scores, key=lambda action: scores[action])


@pytest.mark.parametrize("leaf", ["max", "mean", "state", "none"])
@pytest.mark.parametrize(
    ("width", "horizon", "hold"),
    [(1, 1, 1), (2, 1, 1), (2, 2, 1), (3, 3, 1), (9, 2, 1), (2, 1, 9), (3, 3, 2), (9, 2, 2)],
)
def test_together_they_play_as_path_by_path(width: int, horizon: int, hold: int, leaf: Leaf) -> None:
    legal_NA = torch.tensor([[True, True, False], [True, True, True]])
    for seed in range(20):
        gain: Gain = "expected" if seed % 2 else "likeliest"
        world, rollouts = TableWorld(seed), Rollouts(width, horizon, leaf, gain, hold)
        expected = [plan_slowly(world, 0, rollouts, [0, 1]), plan_slowly(world, 1, rollouts, [0, 1, 2])]
        assert rollouts.plan(world, context(0, 1), legal_NA, GAMMA).tolist() == expected, seed


def test_illegal_actions_are_never_played_though_all_values_are_negative() -> None:
    legal_NA = torch.tensor([[False, False, True], [False, True, True]])
    for seed in range(20):
        first, second = Rollouts().plan(TableWorld(seed), context(0, 1), legal_NA, GAMMA).tolist()
        assert first == 2 and second in (1, 2)


def test_of_equal_paths_the_action_of_greater_q_is_played() -> None:
    @dataclass
    class Flat(TableWorld):
        def __init__(self) -> None:
            super().__init__(0)

        def look_up(self, path: tuple[int, ...]) -> tuple[float, torch.Tensor]:
            return 0.0, torch.tensor([1.0, 3.0, 2.0]) if len(path) == 1 else torch.zeros(ACTIONS)

    assert Rollouts().plan(Flat(), context(0), torch.ones(1, ACTIONS).bool(), GAMMA).tolist() == [1]


def test_inside_jowas_world_a_single_first_action_is_greedy_play(model: Jowa) -> None:
    here, legal_NA = make_context(model), torch.ones(3, 18, dtype=torch.bool)
    greedy = Greedy().plan(JowaWorld(model), here, legal_NA, 0.99)
    assert torch.equal(Rollouts(1, 2).plan(JowaWorld(model), here, legal_NA, 0.99), greedy)


def test_numbers_below_1_are_refused() -> None:
    with pytest.raises(ValueError, match="horizon 0"):
        Rollouts(horizon=0)
