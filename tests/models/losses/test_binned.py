"""Numbers as distributions over bins against numbers by hand, recorded facts and sums written out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses.binned import bin_centres, expected_value, hl_gauss, soft_cross_entropy, symexp, symlog, two_hot

POINTS = torch.linspace(-20, 20, 255)  # Delta-IRIS
EDGES = torch.linspace(-15, 15, 130)  # Simulus, its critic


@given(st.floats(-1e6, 1e6))
def test_symexp_undoes_symlog(x: float) -> None:
    back = symexp(symlog(torch.tensor(x, dtype=torch.float64)))
    assert back.dtype == torch.float32 and float(back) == pytest.approx(x, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "lower", "weights"),
    [
        (1.0, 131, (0.598516, 0.401484)),
        (0.1, 127, (0.394781, 0.605219)),
        (1000.0, 170, (0.129407, 0.870593)),
        (0.0, 127, (1.0, 0.0)),
    ],
)
def test_two_hot_targets_are_delta_iris_s(x: float, lower: int, weights: tuple[float, float]) -> None:
    found = two_hot(torch.tensor([x]), POINTS)[0]
    assert found[lower : lower + 2].tolist() == pytest.approx(weights, abs=2e-5)
    assert float(found.sum()) == pytest.approx(1) and int((found > 1e-4).sum()) <= 2


@pytest.mark.parametrize("x", [-1e12, 1e12, math.exp(20) - 1, 1 - math.exp(20)])
def test_two_hot_targets_beyond_the_ends_lie_on_the_ends(x: float) -> None:
    found = two_hot(torch.tensor(x), POINTS)
    assert float(found.sum()) == 1 and float(found.min()) >= 0
    assert float(found[0 if x < 0 else -1]) == pytest.approx(1, abs=1e-3)


def test_even_odds_are_worth_nothing() -> None:
    assert float(expected_value(torch.zeros(255), POINTS)) == pytest.approx(0, abs=1e-5)


@given(st.floats(-2000, 2000))
def test_targets_are_read_back_as_what_they_were(x: float) -> None:
    for targets, points in (
        (two_hot(torch.tensor([x]), POINTS), POINTS),
        (hl_gauss(torch.tensor([x]), EDGES), bin_centres(EDGES)),
    ):
        read = expected_value(targets.log(), points)
        assert float(symlog(read)) == pytest.approx(float(symlog(torch.tensor(x))), abs=2e-3)


def test_hl_gauss_is_a_normal_distribution_cut_at_the_ends() -> None:
    x, width = 1.7, 30 / 129
    spread = torch.distributions.Normal(math.log1p(x), 0.75 * width)
    mass = spread.cdf(EDGES[1:]) - spread.cdf(EDGES[:-1])
    torch.testing.assert_close(hl_gauss(torch.tensor(x), EDGES), mass / mass.sum(), atol=1e-6, rtol=1e-5)


def test_hl_gauss_beyond_the_ends_has_no_mass_in_the_original_and_the_ends_here() -> None:
    far = torch.tensor([1e9, -1e9])
    assert bool(hl_gauss(far, EDGES, clamp=False).isnan().all())
    found = hl_gauss(far, EDGES)
    assert found.argmax(-1).tolist() == [128, 0] and found.sum(-1).tolist() == pytest.approx([1, 1])


def test_cross_entropy_of_soft_targets_moves_logits_towards_them() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, -1.0]], requires_grad=True)
    targets = torch.tensor([[0.25, 0.75], [1.0, 0.0]], requires_grad=True)
    loss = soft_cross_entropy(logits, targets)
    assert loss.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-2))])
    loss.sum().backward()
    assert logits.grad is not None and logits.grad[0].tolist() == pytest.approx([0.25, -0.25])
    assert targets.grad is None


def test_bins_that_are_none_are_refused() -> None:
    for marks in (torch.zeros(1), torch.tensor([1.0, 0.0]), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="must be at least 2, and increase"):
            bin_centres(marks)
        with pytest.raises(ValueError, match="points must be"):
            two_hot(torch.zeros(2), marks)
    with pytest.raises(ValueError, match="above 0"):
        hl_gauss(torch.zeros(2), EDGES, sigma=0.0)
    with pytest.raises(ValueError, match="3 bins"):
        expected_value(torch.zeros(3), POINTS)
    with pytest.raises(ValueError, match="differ in shape"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(3))
