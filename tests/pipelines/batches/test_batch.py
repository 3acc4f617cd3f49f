"""Rows of a rank are together, in order, the whole batch; samples come from the sources in turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.batches.batch import rank_rows, samples


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


@given(st.integers(1, 9), st.integers(1, 300), st.integers(0, 200))
def test_a_source_gives_its_samples_one_after_the_other(sources: int, count: int, first: int) -> None:
    slots, nths = (
        np.concatenate(parts) for parts in zip(*[samples(first + i, count, sources) for i in range(3)], strict=True)
    )
    for slot in range(sources):
        own = nths[slots == slot]
        assert (np.diff(own) == 1).all()
        assert abs(len(own) - len(slots) / sources) < 1  # shares are equal


@given(st.integers(1, 400), st.integers(0, 50), st.integers(1, 5))
def test_the_samples_do_not_depend_on_how_they_are_cut_into_batches(count: int, step: int, sources: int) -> None:
    whole, part = samples(0, count * (step + 1), sources), samples(step, count, sources)
    for all_of_them, ours in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_them[count * step :], ours)
