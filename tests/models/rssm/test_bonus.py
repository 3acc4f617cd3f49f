import pytest
import torch

from models.rssm.bonus import Bonus, StreamNorm
from models.rssm.config import BonusConfig

SMALL = BonusConfig(weight=2.0, neighbours=3, window=2, queue=7, width=4, momentum=0.9)


def bonus(config: BonusConfig = SMALL) -> Bonus:
    return Bonus(config, 5, torch.Generator().manual_seed(0))


def test_a_size_follows_what_it_sees() -> None:
    norm = StreamNorm(0.99)
    norm.follow(torch.tensor([2.0, 4.0]))
    assert float(norm.mag) == pytest.approx(1.02)
    assert norm(torch.tensor([2.0, 4.0])).tolist() == pytest.approx([1.960784, 3.921569])
    still = StreamNorm()
    still.follow(torch.tensor([9.0]))
    assert still(torch.tensor([3.0])).tolist() == pytest.approx([3.0])


def test_stretches_are_remembered_first_and_compared_then() -> None:
    paying, features = bonus(), torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1))
    paid = paying(features)
    rows = ((features[:, :-1] + features[:, 1:]) / 2) @ paying.projection
    assert paid.bonus_BM.shape == (2, 3) and int(paying.filled) == 6
    torch.testing.assert_close(paying.queue[:6], rows.flatten(0, 1))
    apart = (rows.flatten(0, 1)[:, None] - rows.flatten(0, 1)[None]).norm(dim=-1)
    nearest = apart.sort(dim=1).values[:, :3]
    assert (nearest[:, 0] == 0).all()  # itself
    torch.testing.assert_close(paid.distances_BM.flatten(), nearest.mean(1))
    mag = 0.9 + 0.1 * float(paid.distances_BM.mean())
    torch.testing.assert_close(paid.bonus_BM, 2.0 * paid.distances_BM / mag)


def test_what_is_newest_comes_first_and_the_oldest_goes() -> None:
    paying = bonus()
    paying(torch.randn(2, 4, 5))
    older = paying.queue[:6].clone()
    paying(torch.randn(2, 4, 5))
    assert int(paying.filled) == 7 and torch.equal(paying.queue[6], older[0])


def test_its_memory_goes_on_with_its_weights() -> None:
    paying, other = bonus(), bonus()
    paying(torch.randn(2, 4, 5))
    other.load_state_dict(paying.state_dict())
    features = torch.randn(1, 3, 5)
    torch.testing.assert_close(paying(features), other(features))


def test_a_segment_must_hold_a_stretch() -> None:
    with pytest.raises(ValueError, match=r"Segments of 1 steps have no stretch of bonus\.window 2"):
        bonus()(torch.randn(2, 1, 5))
