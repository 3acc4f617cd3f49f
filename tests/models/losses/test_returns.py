"""Returns and losses of an actor-critic against numbers by hand and sums written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses.returns import discounted_returns, entropy, lambda_returns, n_step, policy_gradient, value_error
from tests.models.iris.hashed import FACTS


def test_the_recorded_returns() -> None:
    fact = FACTS["lambda_returns"]
    rewards, values, ends = torch.tensor(fact["r"]), torch.tensor(fact["v"]), torch.tensor(fact["d"])
    found = lambda_returns(rewards, ends, values, fact["gamma"], fact["lambda"])
    assert found[0].tolist() == pytest.approx(fact["out"], abs=1e-6)


@given(st.integers(2, 6), st.floats(0, 1), st.integers(0, 99))
def test_with_lambda_1_it_is_the_discounted_sum_and_with_0_one_step(steps: int, gamma: float, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(1, steps, generator=draws), torch.randn(1, steps, generator=draws)
    ends = torch.rand(1, steps, generator=draws) < 0.3
    long, short = (lambda_returns(rewards, ends, values, gamma, lambda_)[0] for lambda_ in (1.0, 0.0))
    for step in range(steps - 1):
        alive = 0.0 if ends[0, step] else gamma
        assert float(short[step]) == pytest.approx(float(rewards[0, step] + alive * values[0, step + 1]), abs=1e-5)
        assert float(long[step]) == pytest.approx(float(rewards[0, step] + alive * long[step + 1]), abs=1e-5)
    assert long[-1] == short[-1] == values[0, -1]


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 99))
def test_steps_without_a_known_successor_are_worth_their_value(steps: int, real: int, seed: int) -> None:
    draws, real = torch.Generator().manual_seed(seed), min(real, steps)
    rewards, values = torch.randn(1, steps, generator=draws), torch.randn(1, steps, generator=draws)
    ends, known = torch.zeros(1, steps).bool(), torch.arange(steps)[None] < real - 1
    found = lambda_returns(rewards, ends, values, 0.9, 0.5, known)
    assert torch.equal(found[:, max(real - 1, 0) :], values[:, max(real - 1, 0) :])
    if real:
        torch.testing.assert_close(
            found[:, :real], lambda_returns(rewards[:, :real], ends[:, :real], values[:, :real], 0.9, 0.5)
        )


def test_an_end_that_is_known_takes_the_reward_alone_even_last() -> None:
    ends, known = torch.tensor([[False, True]]), torch.tensor([[True, True]])
    found = lambda_returns(torch.tensor([[1.0, 2.0]]), ends, torch.tensor([[9.0, 9.0]]), 0.5, 1.0, known)
    assert found.tolist() == [[2.0, 2.0]]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="must be equal"):
        lambda_returns(torch.zeros(1, 3), torch.zeros(1, 3).bool(), torch.zeros(1, 2), 0.9, 0.9)


def test_the_policys_gradient_lifts_what_was_better_than_expected() -> None:
    logits = torch.zeros(1, 1, 3, requires_grad=True)
    advantages = torch.tensor([[2.0]], requires_grad=True)
    loss = policy_gradient(logits, torch.tensor([[1]]), advantages)
    loss.backward()
    assert loss.item() == pytest.approx(2 * torch.log(torch.tensor(3.0)).item())
    assert logits.grad is not None and logits.grad.flatten().tolist() == pytest.approx([2 / 3, -4 / 3, 2 / 3])
    assert advantages.grad is None


def test_values_move_towards_returns_and_returns_stay() -> None:
    values, returns = torch.tensor([[1.0, 3.0]], requires_grad=True), torch.tensor([[2.0, 1.0]], requires_grad=True)
    loss = value_error(values, returns)
    loss.backward()
    assert loss.item() == 2.5 and returns.grad is None
    assert values.grad is not None and values.grad.tolist() == [[-1.0, 2.0]]


def test_entropy_of_even_odds_and_of_actions_that_there_are_not() -> None:
    logits = torch.tensor([[[0.0, 0.0, -torch.inf]], [[0.0, -torch.inf, -torch.inf]]], requires_grad=True)
    found = entropy(logits)
    found.backward()
    assert found.item() == pytest.approx(torch.log(torch.tensor(2.0)).item() / 2)
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_discounted_returns_of_an_episode_and_of_its_beginning() -> None:
    rewards_T = torch.tensor([1.0, 0.0, 2.0])
    assert discounted_returns(rewards_T, 0.99).tolist() == pytest.approx([2.9602, 1.98, 2.0])
    assert discounted_returns(rewards_T[:2], 0.99, after=2.0).tolist() == pytest.approx([2.9602, 1.98])
    assert discounted_returns(rewards_T[:0], 0.99).tolist() == []


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_n_steps_are_the_sum_written_out_step_by_step(steps: int, n: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    rewards, chances = torch.randn(2, steps, generator=draws), torch.rand(2, 2, steps, generator=draws)
    ends, real = chances[0] < 0.3, steps - int(seed % 2)
    known = torch.arange(steps).expand(2, steps) < real - 1
    known = known | (ends & (torch.arange(steps) < real))
    returns, discounts, after = n_step(rewards, ends, known, 0.9, n)
    for row in range(2):
        for start in range(steps):
            total, discount, at = 0.0, 1.0, start
            for _ in range(n):
                if at >= steps or not known[row, at] or discount == 0:
                    break
                total, discount = total + discount * float(rewards[row, at]), 0.9 * discount * (not ends[row, at])
                at += 1
            assert returns[row, start].item() == pytest.approx(total, abs=1e-5)
            assert discounts[row, start].item() == pytest.approx(discount, abs=1e-6)
            assert after[row, start] == min(at, steps - 1)
