from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.api import Batch
from models.planning.dreams import Dreams


def segments(*numbers: int) -> Batch:
    """One-step segments that are told apart by their reward."""
    rows = len(numbers)
    return Batch(
        tokens_BTK=torch.zeros(rows, 1, 4, dtype=torch.long),
        actions_BT=torch.zeros(rows, 1, dtype=torch.long),
        rewards_BT=torch.tensor(numbers, dtype=torch.float32)[:, None],
        ends_BT=torch.zeros(rows, 1, dtype=torch.long),
        mask_BT=torch.ones(rows, 1, dtype=torch.bool),
        games_B=torch.zeros(rows, dtype=torch.long),
        imagined_B=torch.ones(rows, dtype=torch.bool),
    )


def numbers(dreams: Dreams, count: int) -> list[int]:
    return dreams.sample(count).rewards_BT[:, 0].int().tolist()


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_the_newest_segments_stay_and_all_of_them_are_drawn(capacity: int, sizes: list[int]) -> None:
    dreams, added = Dreams(capacity), 0
    for size in sizes:
        dreams.add(segments(*range(added, added + size)))
        added += size
    assert len(dreams) == min(added, capacity)
    assert set(numbers(dreams, 200)) == set(range(max(0, added - capacity), added))


def test_a_seed_repeats_its_draws_and_a_state_continues_them() -> None:
    def filled(seed: int) -> Dreams:
        dreams = Dreams(8, seed)
        dreams.add(segments(*range(11)))
        return dreams

    first, again, other = filled(1), filled(1), filled(2)
    assert numbers(first, 20) == numbers(again, 20) != numbers(other, 20)
    twin = Dreams(8, 5)
    twin.restore(first.state())
    first.add(segments(50, 51))
    twin.add(segments(50, 51))
    assert numbers(first, 20) == numbers(twin, 20)


def test_emptiness_and_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Dreams(0)
    dreams = Dreams(3)
    with pytest.raises(ValueError, match="No segments"):
        dreams.sample(1)
    dreams.add(segments(1))
    with pytest.raises(ValueError, match="do not fit among"):
        dreams.add(replace(segments(1), tokens_BTK=None))
    dreams.add(segments(2, 3, 4))
    with pytest.raises(ValueError, match="not of capacity 2"):
        Dreams(2).restore(dreams.state())
