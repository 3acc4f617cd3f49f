import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses.segments import (
    bellman_value,
    c51_bellman_target,
    c51_cross_entropy,
    c51_expectation,
    c51_mixture,
    c51_of_value,
    c51_project,
    c51_support,
    data_value,
    end_loss,
    expectile_weights,
    half_squared_error,
    masked_mean,
    mixture_weights,
    observation_loss,
    overestimation,
    reward_loss,
    row_means,
    weighted_mean,
)


def test_a_segments_mean_is_over_what_is_real_of_it() -> None:
    errors = torch.tensor([[1.0, 3.0, torch.inf], [torch.nan, torch.nan, torch.nan]], requires_grad=True)
    found = row_means(errors, torch.tensor([[True, True, False], [False, False, False]]))
    assert found.tolist() == [2.0, 0.0] and not found.requires_grad


ATOMS = torch.tensor([0.0, 1.0, 2.0])
VALUES = torch.tensor([[[0.0, 0.0], [1.0, 3.0], [50.0, 60.0]]])
ACTIONS = torch.tensor([[0, 1, 0]])
MASK = torch.tensor([[True, True, False]])


def test_mean_over_the_masked_in_only_even_beside_infinities() -> None:
    values = torch.tensor([1.0, torch.inf, 5.0, torch.nan], requires_grad=True)
    mean = masked_mean(values, torch.tensor([True, False, True, False]))
    mean.backward()
    assert mean.item() == 3.0
    assert values.grad is not None and values.grad.tolist() == [0.5, 0.0, 0.5, 0.0]


def test_an_empty_mask_gives_zero_and_another_shape_is_refused() -> None:
    assert masked_mean(torch.ones(3), torch.zeros(3, dtype=torch.bool)).item() == 0.0
    with pytest.raises(ValueError, match="differ in shape"):
        masked_mean(torch.ones(3), torch.ones(2, dtype=torch.bool))


def test_observations_are_predicted_one_token_ahead() -> None:
    tokens = torch.tensor([[[0, 1], [2, 3]]])
    logits = torch.full((1, 4, 4), -30.0)
    for position, label in enumerate([1, 2, 3]):
        logits[0, position, label] = 30.0
    logits[0, 3] = torch.nan  # has no target
    assert observation_loss(logits, tokens, torch.ones(1, 2, dtype=torch.bool)).item() == pytest.approx(0, abs=1e-6)


def test_padded_steps_are_no_targets() -> None:
    tokens, logits = torch.tensor([[[0, 1], [2, 3]]]), torch.zeros(1, 4, 4)
    logits[0, 1:3] = torch.tensor([99.0, 0.0, 0.0, 0.0])  # badly wrong about the second step
    only_first = observation_loss(logits, tokens, torch.tensor([[True, False]]))
    assert only_first.item() == pytest.approx(math.log(4))
    assert observation_loss(logits, tokens, torch.zeros(1, 2, dtype=torch.bool)).item() == 0.0


def test_rewards_are_classed_by_sign() -> None:
    rewards = torch.tensor([[-3.0, 0.0, 0.5]])
    logits = torch.eye(3)[None] * 100
    assert reward_loss(logits, rewards, torch.ones(1, 3, dtype=torch.bool)).item() == pytest.approx(0, abs=1e-6)


def test_ends_by_hand() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [5.0, 5.0]]])
    mask = torch.tensor([[True, False]])
    assert end_loss(logits, torch.tensor([[1, 0]]), mask).item() == pytest.approx(-math.log(0.75))
    assert end_loss(logits, torch.tensor([[False, True]]), mask).item() == pytest.approx(-math.log(0.25))


def test_logits_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(1, 4\)"):
        observation_loss(torch.zeros(1, 3, 4), torch.zeros(1, 2, 2, dtype=torch.long), torch.ones(1, 2).bool())


def test_an_end_leaves_a_scalar_target_the_reward_alone() -> None:
    rewards, discounts, after = torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.0]), torch.tensor([4.0, 4.0])
    assert bellman_value(rewards, discounts, after).tolist() == [3.0, 1.0]


def test_the_error_of_a_scalar_is_half_its_square() -> None:
    assert half_squared_error(torch.tensor([3.0, -1.0]), torch.tensor([1.0, -1.0])).tolist() == [2.0, 0.0]


def test_both_sides_of_the_penalty_by_hand() -> None:
    high = (math.log(2) + math.log(math.e + math.e**3)) / 2
    assert overestimation(VALUES, MASK).item() == pytest.approx(high)
    assert data_value(VALUES, ACTIONS, MASK).item() == pytest.approx(1.5)


def test_the_penalty_lifts_the_taken_action_and_lowers_the_other() -> None:
    values = VALUES.clone().requires_grad_()
    (overestimation(values, MASK) - data_value(values, ACTIONS, MASK)).backward()
    assert values.grad is not None
    assert values.grad[0, 0].tolist() == pytest.approx([-0.25, 0.25])  # (softmax - taken) / real steps
    assert values.grad[0, 2].tolist() == [0.0, 0.0]


@given(st.integers(1, 9), st.integers(0, 2**31))
def test_weights_are_a_convex_combination_and_depend_on_the_seed_alone(members: int, seed: int) -> None:
    weights_Q = mixture_weights(members, torch.Generator().manual_seed(seed))
    assert weights_Q.shape == (members,) and bool((weights_Q >= 0).all())
    assert weights_Q.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(weights_Q, mixture_weights(members, torch.Generator().manual_seed(seed)))


def test_a_weighted_mean_without_weights_is_the_mean() -> None:
    values = torch.arange(12.0).view(3, 2, 2)
    assert torch.equal(weighted_mean(values, None), values.mean(0))
    torch.testing.assert_close(weighted_mean(values, torch.full((3,), 1 / 3)), values.mean(0))
    assert torch.equal(weighted_mean(values, torch.tensor([0.0, 1.0, 0.0])), values[1])


def test_support_has_equal_steps_and_both_ends() -> None:
    assert c51_support(-10, 30, 51)[:3].tolist() == pytest.approx([-10.0, -9.2, -8.4])
    assert c51_support(-10, 30, 51)[-1].item() == 30.0


@pytest.mark.parametrize(
    ("point", "expected"),
    [(0.5, [0.5, 0.5, 0]), (1.0, [0, 1, 0]), (1.75, [0, 0.25, 0.75]), (-7.0, [1, 0, 0]), (99.0, [0, 0, 1])],
)
def test_a_point_mass_is_shared_by_its_neighbours(point: float, expected: list[float]) -> None:
    moved = torch.tensor([[point, 0.0, 0.0]])
    assert c51_project(moved, torch.tensor([[1.0, 0.0, 0.0]]), ATOMS)[0].tolist() == pytest.approx(expected)


def test_a_bellman_target_by_hand() -> None:
    # r = 0.5 and gamma = 0.5 move the atoms 0, 1, 2 to 0.5, 1.0, 1.5; an end leaves r alone.
    next_probs = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    target = c51_bellman_target(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.0]), next_probs, ATOMS)
    assert target[0].tolist() == pytest.approx([0.1, 0.1 + 0.3 + 0.25, 0.25])
    assert target[1].tolist() == pytest.approx([0.5, 0.5, 0.0])


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=5, max_size=5),
    st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5),
)
def test_projection_keeps_mass_and_inside_the_support_the_mean(points: list[float], masses: list[float]) -> None:
    atoms, moved, probs = c51_support(-10, 30, 5), torch.tensor(points), torch.tensor(masses)
    projected = c51_project(moved, probs, atoms)
    assert projected.sum().item() == pytest.approx(probs.sum().item(), abs=1e-4)
    assert (projected >= 0).all()
    clipped = moved.clamp(-10, 30)
    assert c51_expectation(projected, atoms).item() == pytest.approx((clipped * probs).sum().item(), abs=1e-3)


@given(st.floats(-2, 3))
def test_a_known_value_is_the_mean_of_its_two_atoms(value: float) -> None:
    atoms = c51_support(-2.0, 3.0, 11)
    found = c51_of_value(torch.tensor([value]), atoms)
    assert int((found > 0).sum()) <= 2
    assert float(c51_expectation(found, atoms)) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("expectile", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("categorical", [False, True])
def test_what_minimises_weighted_errors_is_the_expectile(expectile: float, categorical: bool) -> None:
    targets, atoms = torch.tensor([0.0, 1.0, 1.0, 4.0]), c51_support(-1.0, 5.0, 7)
    parameters = torch.zeros(7 if categorical else 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([parameters], max_iter=20, line_search_fn="strong_wolfe")

    def value() -> torch.Tensor:
        return c51_expectation(parameters.softmax(0), atoms) if categorical else parameters[0]

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        weights = expectile_weights(targets, value().detach(), expectile)
        if categorical:
            errors = c51_cross_entropy(c51_of_value(targets, atoms), parameters.softmax(0).expand(4, -1))
        else:
            errors = half_squared_error(targets, value())
        total = (weights * errors).mean()
        total.backward()
        return total

    for _ in range(50):
        optimiser.step(loss)
    found = float(value().detach())
    above, below = (targets - found).clamp(min=0).sum(), (found - targets).clamp(min=0).sum()
    assert expectile * above == pytest.approx(float((1 - expectile) * below), abs=2e-2)


def test_ensembles_mix_probabilities_not_logits() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    assert c51_mixture(logits).tolist() == pytest.approx([0.375, 0.625])
    assert c51_mixture(logits.bfloat16()).dtype == torch.float32


def test_cross_entropy_by_hand_and_finite_at_zero() -> None:
    target, predicted = torch.tensor([[0.5, 0.5], [0.0, 1.0]]), torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    losses = c51_cross_entropy(target, predicted)
    assert losses[0].item() == pytest.approx(-0.5 * math.log(0.25) - 0.5 * math.log(0.75))
    assert losses[1].item() == pytest.approx(-math.log(1e-8), rel=1e-4)


def test_cross_entropy_of_what_was_held_impossible_is_bounded_by_the_original_s_epsilon() -> None:
    loss = c51_cross_entropy(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(-math.log(1e-8), rel=1e-5)
