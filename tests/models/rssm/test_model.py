import math

import pytest
import torch
from torch import Tensor

from models.api import Moment
from models.rssm.chance import Gaussian, OneHot, Seeded
from models.rssm.config import KlConfig, RssmConfig
from models.rssm.model import NormedGru, Rssm, balanced_kl

SIZES = RssmConfig(deter=6, hidden=5, stoch=3, discrete=4)
ACTIONS, EMBEDDED, ROWS, STEPS = 2, 7, 3, 5


def draws() -> Seeded:
    return Seeded(0, "test", Moment(0))


def rssm(sizes: RssmConfig = SIZES, actions: int = ACTIONS, acts: bool = True) -> Rssm:
    torch.manual_seed(0)
    return Rssm(sizes, actions, EMBEDDED, acts).requires_grad_(False)


def sequence() -> tuple[Tensor, Tensor, Tensor]:
    """Embedded frames, actions, and which steps are the first: also one in the middle."""
    torch.manual_seed(1)
    first_BT = torch.zeros(ROWS, STEPS, dtype=torch.bool)
    first_BT[:, 0] = first_BT[1, 3] = True
    return torch.randn(ROWS, STEPS, EMBEDDED), torch.randn(ROWS, STEPS, ACTIONS), first_BT


def test_a_cell_of_zeros_keeps_what_its_shift_says() -> None:
    cell = NormedGru(2, 3)
    torch.nn.init.zeros_(cell.layer.weight)
    torch.nn.init.zeros_(cell.layer.bias)
    kept = cell(torch.zeros(1, 2), torch.ones(1, 3))
    assert kept.tolist()[0] == pytest.approx([1 - 1 / (1 + math.e)] * 3)  # 0.7310586: update and candidate are 0


def test_the_thirds_of_a_cell_are_reset_candidate_update() -> None:
    cell, reached = NormedGru(1, 1), []
    torch.nn.init.zeros_(cell.layer.weight)
    for third in range(3):
        with torch.no_grad():
            cell.layer.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
            cell.layer.bias[third] += 0.5
        reached.append(float(cell(torch.zeros(1, 1), torch.zeros(1, 1))))
    parts = [[0.5, 1.0, 0.0], [0.0, 1.5, 0.0], [0.0, 1.0, 0.5]]
    expected = []
    for part in parts:
        normed = torch.nn.functional.layer_norm(torch.tensor(part), (3,), eps=1e-3)
        reset, candidate, update = normed.unbind()
        expected.append(float(torch.sigmoid(update - 1) * torch.tanh(torch.sigmoid(reset) * candidate)))
    assert reached == pytest.approx(expected, abs=1e-6) and len(set(expected)) == 3


@pytest.mark.parametrize("sizes", [SIZES, RssmConfig(deter=6, hidden=5, stoch=3, discrete=0)])
def test_a_sequence_is_its_steps(sizes: RssmConfig) -> None:
    model, (embedded, actions, first) = rssm(sizes), sequence()
    posterior, prior = model.observe(embedded, actions, first, draws())
    state, given = model.start(ROWS), draws()
    for step in range(STEPS):
        state = model.observe_step(state, actions[:, step], embedded[:, step], first[:, step], given)
        torch.testing.assert_close(posterior.at((slice(None), step)), state)
        torch.testing.assert_close(prior[:, step], model.prior(state.deter))


def test_a_first_step_knows_nothing_of_what_was_before() -> None:
    model, (embedded, actions, first) = rssm(), sequence()
    posterior, _ = model.observe(embedded, actions, first, draws())
    carried = model.start(ROWS)
    carried = carried._replace(sample=carried.sample + 1, deter=carried.deter * float("nan"))
    other = actions.clone()
    other[:, 0], other[1, 3] = 9.0, -9.0
    again, _ = model.observe(embedded, other, first, draws(), carried)
    torch.testing.assert_close(posterior, again)
    later = actions.clone()
    later[0, 3] += 1
    moved, _ = model.observe(embedded, later, first, draws())
    assert not torch.equal(moved.deter[0, 3], posterior.deter[0, 3])
    assert torch.equal(moved.deter[1:], posterior.deter[1:])


def test_an_action_free_model_reads_no_action_and_keeps_room_for_one() -> None:
    model, (embedded, actions, first) = rssm(actions=50, acts=False), sequence()
    assert model.inward.weight.shape == (5, 12 + 50)
    without, _ = model.observe(embedded, None, first, draws())
    given, _ = model.observe(embedded, actions, first, draws())
    assert torch.equal(without.deter, given.deter)
    reads = rssm(actions=50)
    moved, _ = reads.observe(embedded, actions, first, draws())
    padded, _ = reads.observe(embedded, torch.cat([actions, torch.zeros(ROWS, STEPS, 48)], -1), first, draws())
    torch.testing.assert_close(moved, padded)
    assert not torch.equal(moved.deter, without.deter)
    with pytest.raises(ValueError, match="51 numbers: this world has room for 50"):
        reads.told(torch.zeros(1, 51))


def test_imagination_follows_the_prior() -> None:
    model, (_, actions, _) = rssm(), sequence()
    imagined = model.imagine(actions, STEPS, model.start(ROWS), draws())
    state, given = model.start(ROWS), draws()
    for step in range(STEPS):
        state = model.imagine_step(state, actions[:, step], given)
        assert torch.equal(imagined.deter[:, step], state.deter)
    assert imagined.feature.shape == (ROWS, STEPS, SIZES.feature)
    assert torch.equal(imagined.feature[..., : SIZES.sample], imagined.sample)  # the sample comes first


def test_the_balance_of_a_divergence() -> None:
    """Numbers of the specification."""
    posterior = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], requires_grad=True)
    prior = torch.zeros(1, 2, 3, requires_grad=True)
    loss, kl = balanced_kl(OneHot(2, 3), posterior, prior, KlConfig())
    loss.backward()
    assert float(loss) == pytest.approx(0.2465691, abs=1e-6) and float(kl) == pytest.approx(0.2465691, abs=1e-6)
    assert posterior.grad is not None and prior.grad is not None
    assert float(posterior.grad[0, 0, 0]) == pytest.approx(0.0488412, abs=1e-6)
    assert float(prior.grad[0, 0, 0]) == pytest.approx(-0.1942269, abs=1e-6)


def test_free_nats_are_of_the_mean_or_of_each_step() -> None:
    kind = Gaussian(1)
    ones = torch.ones(2, 1)
    posterior = torch.stack([torch.tensor([[0.0], [2.0]]), ones], dim=1)
    prior = torch.stack([torch.zeros(2, 1), ones], dim=1)  # KL 0 and 2
    for balance in (0.8, 0.5):
        assert float(balanced_kl(kind, posterior, prior, KlConfig(balance, 0.5))[0]) == pytest.approx(1.0)
        each = KlConfig(balance, 0.5, free_of_mean=False)
        assert float(balanced_kl(kind, posterior, prior, each)[0]) == pytest.approx((0.5 + 2.0) / 2)
    assert float(balanced_kl(kind, posterior, prior, KlConfig(0.8, 3.0))[0]) == pytest.approx(3.0)
