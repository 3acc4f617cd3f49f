"""Rows of a rank: together, in order, the whole batch, whatever the numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.batches.batch import rank_rows


@given(st.integers(1, 4096), st.integers(1, 64))
def test_ranks_in_order_are_the_whole_batch_in_even_parts(count: int, world: int) -> None:
    if world > count:
        return
    parts = [list(range(count))[rank_rows(count, rank, world)] for rank in range(world)]
    assert [row for part in parts for row in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("count", "rank", "world", "words"),
    [
        (8, 2, 2, "Rank 2 of 2: ranks are numbered 0 to 1"),
        (8, -1, 2, "Rank -1 of 2"),
        (8, 0, 0, "Rank 0 of 0"),
        (3, 0, 4, "A batch of 3 cannot be shared by 4 ranks: make it larger"),
    ],
)
def test_impossible_ranks_are_refused(count: int, rank: int, world: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rank_rows(count, rank, world)
