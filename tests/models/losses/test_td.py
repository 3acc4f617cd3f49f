import torch

from models.losses.td import bellman_value, half_squared_error


def test_an_end_leaves_the_reward_alone() -> None:
    rewards, continues, after = torch.tensor([1.0, 1.0]), torch.tensor([True, False]), torch.tensor([4.0, 4.0])
    assert bellman_value(rewards, continues, after, 0.5).tolist() == [3.0, 1.0]


def test_the_error_is_half_the_square() -> None:
    assert half_squared_error(torch.tensor([3.0, -1.0]), torch.tensor([1.0, -1.0])).tolist() == [2.0, 0.0]
