import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses.c51 import bellman_target, cross_entropy, expectation, mixture, project, support

ATOMS = torch.tensor([0.0, 1.0, 2.0])


def test_support_has_equal_steps_and_both_ends() -> None:
    assert support(-10, 30, 51)[:3].tolist() == pytest.approx([-10.0, -9.2, -8.4])
    assert support(-10, 30, 51)[-1].item() == 30.0


@pytest.mark.parametrize(
    ("point", "expected"),
    [(0.5, [0.5, 0.5, 0]), (1.0, [0, 1, 0]), (1.75, [0, 0.25, 0.75]), (-7.0, [1, 0, 0]), (99.0, [0, 0, 1])],
)
def test_a_point_mass_is_shared_by_its_neighbours(point: float, expected: list[float]) -> None:
    moved = torch.tensor([[point, 0.0, 0.0]])
    assert project(moved, torch.tensor([[1.0, 0.0, 0.0]]), ATOMS)[0].tolist() == pytest.approx(expected)


def test_a_bellman_target_by_hand() -> None:
    # r = 0.5 and gamma = 0.5 move the atoms 0, 1, 2 to 0.5, 1.0, 1.5; an end leaves r alone.
    next_probs = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    target = bellman_target(torch.tensor([0.5, 0.5]), torch.tensor([True, False]), next_probs, ATOMS, gamma=0.5)
    assert target[0].tolist() == pytest.approx([0.1, 0.1 + 0.3 + 0.25, 0.25])
    assert target[1].tolist() == pytest.approx([0.5, 0.5, 0.0])


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=5, max_size=5),
    st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5),
)
def test_projection_keeps_mass_and_inside_the_support_the_mean(points: list[float], masses: list[float]) -> None:
    atoms, moved, probs = support(-10, 30, 5), torch.tensor(points), torch.tensor(masses)
    projected = project(moved, probs, atoms)
    assert projected.sum().item() == pytest.approx(probs.sum().item(), abs=1e-4)
    assert (projected >= 0).all()
    clipped = moved.clamp(-10, 30)
    assert expectation(projected, atoms).item() == pytest.approx((clipped * probs).sum().item(), abs=1e-3)


def test_ensembles_mix_probabilities_not_logits() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    assert mixture(logits).tolist() == pytest.approx([0.375, 0.625])
    assert mixture(logits.bfloat16()).dtype == torch.float32


def test_cross_entropy_by_hand_and_finite_at_zero() -> None:
    target, predicted = torch.tensor([[0.5, 0.5], [0.0, 1.0]]), torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    losses = cross_entropy(target, predicted)
    assert losses[0].item() == pytest.approx(-0.5 * math.log(0.25) - 0.5 * math.log(0.75))
    assert losses[1].item() == pytest.approx(-math.log(1e-8), rel=1e-4)


def test_cross_entropy_of_what_was_held_impossible_is_bounded_by_the_original_s_epsilon() -> None:
    loss = cross_entropy(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(-math.log(1e-8), rel=1e-5)
