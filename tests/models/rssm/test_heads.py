import math

import pytest
import torch
from torch.distributions import Normal

from models.api import Moment
from models.rssm.chance import Seeded
from models.rssm.config import HeadConfig
from models.rssm.heads import BoundedGaussian, Number, Policy, log_chance


def bounded(mean: float, std: float, rows: int = 1) -> BoundedGaussian:
    means = torch.full((rows, 1), mean, dtype=torch.float64)
    return BoundedGaussian(means, means, torch.full_like(means, std))


def test_a_policy_of_zeros() -> None:
    """Numbers of the specification."""
    policy = Policy(HeadConfig(1, 3), 2, 4)
    for each in policy.parameters():
        torch.nn.init.zeros_(each)
    found = policy.policy(torch.zeros(1, 2))
    assert found.mean.abs().max() == 0 and torch.allclose(found.std, torch.tensor(1.1))
    assert found.entropy().item() == pytest.approx(2.74391, abs=1e-5)
    assert found.log_chance(torch.zeros(1, 4)).item() == pytest.approx(4 * -0.5628, abs=1e-4)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.1), (0.7, 0.4), (-0.95, 0.2), (0.99, 2.0)])
def test_chances_integrate_to_one_and_entropy_is_their_mean(mean: float, std: float) -> None:
    found = bounded(mean, std)
    places = torch.linspace(-1, 1, 20_001, dtype=torch.float64)[:, None]
    log = found.log_chance(places)
    assert float(torch.trapezoid(log.exp(), dx=1e-4)) == pytest.approx(1, abs=1e-6)
    assert found.entropy().item() == pytest.approx(float(-torch.trapezoid(log.exp() * log, dx=1e-4)), abs=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.1), (0.7, 0.4), (-0.95, 0.2)])
def test_an_action_stands_at_its_share_of_all_chance(mean: float, std: float) -> None:
    share = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    drawn, normal = bounded(mean, std, 11).draw(share), Normal(mean, std)
    low, high = (float(normal.cdf(torch.tensor(end, dtype=torch.float64))) for end in (-1.0, 1.0))
    torch.testing.assert_close((normal.cdf(drawn) - low) / (high - low), share, atol=1e-5, rtol=0)
    assert drawn.abs().max() < 1
    ends = torch.tensor([[0.0], [1 - 6e-8], [1.0]])
    narrow = torch.full_like(ends, mean)
    drawn = BoundedGaussian(narrow, narrow, torch.full_like(ends, 0.1)).draw(ends)
    assert drawn.abs().max() < 1 and bool(drawn.isfinite().all())


def test_a_drawn_action_moves_with_mean_and_std() -> None:
    mean, std = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)

    def draw(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        return BoundedGaussian(mean, mean, std).draw(torch.tensor([[0.8]], dtype=torch.float64))

    assert torch.autograd.gradcheck(draw, (mean.requires_grad_(), std.requires_grad_()))


def test_the_likeliest_action_keeps_inside() -> None:
    assert float(bounded(1.7, 1.0).mode) == 1.0 and float(bounded(-0.2, 1.0).mode) == pytest.approx(-0.2)
    policy = Policy(HeadConfig(1, 3), 2, 2)
    given = torch.rand(5, 2)
    torch.testing.assert_close(policy.act(given, None), policy.policy(given).mode)
    draws = Seeded(0, "x", Moment(0))
    assert torch.equal(policy.act(given, draws), policy.act(given, Seeded(0, "x", Moment(0))))


def test_a_number_and_its_chance() -> None:
    head = Number(HeadConfig(2, 3), 4)
    assert head(torch.rand(2, 5, 4)).shape == (2, 5)
    without_constant = Normal(0.5, 1.0).log_prob(torch.tensor(2.0)) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(log_chance(torch.tensor(0.5), torch.tensor(2.0)), without_constant)
