import pytest
import torch

from models.planning.greedy import Greedy, leaf_values, masked_values
from tests.models.planning.table_world import ACTIONS, GAMMA, TableWorld, context


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
