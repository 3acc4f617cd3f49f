import math

import pytest
import torch

from models.losses.cql import data_value, overestimation

VALUES = torch.tensor([[[0.0, 0.0], [1.0, 3.0], [50.0, 60.0]]])
ACTIONS = torch.tensor([[0, 1, 0]])
MASK = torch.tensor([[True, True, False]])


def test_both_sides_by_hand() -> None:
    high = (math.log(2) + math.log(math.e + math.e**3)) / 2
    assert overestimation(VALUES, MASK).item() == pytest.approx(high)
    assert data_value(VALUES, ACTIONS, MASK).item() == pytest.approx(1.5)


def test_the_penalty_lifts_the_taken_action_and_lowers_the_other() -> None:
    values = VALUES.clone().requires_grad_()
    (overestimation(values, MASK) - data_value(values, ACTIONS, MASK)).backward()
    assert values.grad is not None
    assert values.grad[0, 0].tolist() == pytest.approx([-0.25, 0.25])  # (softmax - taken) / real steps
    assert values.grad[0, 2].tolist() == [0.0, 0.0]
