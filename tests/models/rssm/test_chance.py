import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from models.api import Moment
from models.rssm.chance import Gaussian, OneHot, Seeded


def draws(step: int = 0) -> Seeded:
    return Seeded(3, "test", Moment(step))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_classes_are_those_of_categoricals() -> None:
    kind = OneHot(3, 4)
    first, second = kind.read(numbers(2, 5, 12)), kind.read(numbers(2, 5, 12, seed=1))
    ours, theirs = kind.divergence(first, second), kl_divergence(Categorical(logits=first), Categorical(logits=second))
    torch.testing.assert_close(ours, theirs.sum(-1))
    torch.testing.assert_close(kind.entropy(first), Categorical(logits=first).entropy().sum(-1))
    equal = kl_divergence(Categorical(logits=first), Categorical(logits=torch.zeros_like(first))).sum(-1)
    torch.testing.assert_close(kind.from_standard(first, 9.0), equal)


@pytest.mark.parametrize("std", ["sigmoid2", "sigmoid", "softplus"])
def test_numbers_are_those_of_normals(std: str) -> None:
    kind = Gaussian(3, std, least=0.1)
    first, second = kind.read(numbers(2, 6)), kind.read(numbers(2, 6, seed=1))
    theirs = [Independent(Normal(*each.unbind(-2)), 1) for each in (first, second)]
    torch.testing.assert_close(kind.divergence(first, second), kl_divergence(*theirs))
    torch.testing.assert_close(kind.entropy(first), theirs[0].entropy())
    raw = numbers(2, 6)[:, 3:]
    bent = {"sigmoid2": 2 * torch.sigmoid(raw / 2), "sigmoid": torch.sigmoid(raw), "softplus": raw.exp().log1p()}
    torch.testing.assert_close(first[:, 1], bent[std] + 0.1)
    assert torch.equal(kind.mode(first), first[:, 0])


def test_a_drawn_class_has_the_gradient_of_its_chances() -> None:
    kind = OneHot(1, 3)
    logits = numbers(4, 3).requires_grad_()
    sample = kind.draw(kind.read(logits), draws(), "x")
    assert torch.equal(sample.detach().sort(-1).values, torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3))
    (sample @ torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    known = logits.grad
    logits.grad = None
    (logits.softmax(-1) @ torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    torch.testing.assert_close(known, logits.grad)
    assert torch.equal(kind.mode(kind.read(logits)).argmax(-1), logits.argmax(-1))


def test_draws_are_likely_where_chances_are() -> None:
    logits = torch.tensor([0.1, 0.2, 0.7]).log().expand(4000, 3)
    shares = draws().classes("x", logits).bincount(minlength=3) / 4000
    assert shares.tolist() == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


def test_draws_repeat_and_differ_by_purpose_and_step() -> None:
    like = torch.zeros(50)
    for kind in ("normal", "uniform"):
        once, again = (getattr(draws(), kind)("x", like) for _ in range(2))
        assert torch.equal(once, again)
        assert not torch.equal(once, getattr(draws(), kind)("y", like))
        assert not torch.equal(once, getattr(draws(1), kind)("x", like))


@pytest.mark.parametrize("count", [2, 3, 7])
def test_an_order_leaves_nothing_in_its_place(count: int) -> None:
    given, seen = draws(), set()
    for _ in range(50):
        order = given.order("x", count)
        assert order.sort().values.tolist() == list(range(count)) and not (order == torch.arange(count)).any()
        seen.add(tuple(order.tolist()))
    assert len(seen) > 1 or count == 2


def test_some_are_different_numbers_and_steps_are_all_reached() -> None:
    some = draws().some("x", 20, 8, 3)
    assert some.shape == (20, 3) and all(len(set(row)) == 3 for row in some.tolist())
    assert set(some.flatten().tolist()) == set(range(8))
    assert set(draws().steps("x", 100, 4).tolist()) == set(range(4))
