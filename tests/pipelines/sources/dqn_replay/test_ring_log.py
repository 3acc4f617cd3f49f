"""What a snapshot's count says about its rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.bucket.bucket import Bucket
from pipelines.sources.dqn_replay.listing import file_name, list_objects, log_folder
from pipelines.sources.dqn_replay.record import group_by_checkpoint
from pipelines.sources.dqn_replay.ring_log import RingLog, read_log, row_ranges
from tests.pipelines.sources.dqn_replay.toy import write_replay


def log(add_count: int, capacity: int = 10, around: list[int] | None = None) -> RingLog:
    zeros = np.zeros(capacity, np.int64)
    return RingLog(0, add_count, zeros, zeros.astype(np.float32), zeros, np.array(around or [], np.int64))


@given(st.integers(-1, 200), st.integers(0, 60), st.integers(1, 30))
def test_row_ranges_are_the_rows_of_the_add_numbers_in_order(first, count, capacity) -> None:
    found = row_ranges(first, first + count, capacity)
    assert [row for start, stop in found for row in range(start, stop)] == [
        number % capacity for number in range(first, first + count)
    ]
    assert all(0 <= start < stop <= capacity for start, stop in found)


@pytest.mark.parametrize(("count", "oldest", "cursor"), [(0, 0, 0), (9, 0, 9), (10, 0, 0), (29, 19, 9), (34, 24, 4)])
def test_a_ring_holds_the_last_rows(count, oldest, cursor) -> None:
    assert (log(count).oldest, log(count).cursor) == (oldest, cursor)


@pytest.mark.parametrize(
    ("around", "fits"),
    [([8, 9, 0, 1, 2], True), ([], True), ([8, 9], False), ([9, 0, 1, 2, 3], False), ([8, 9, 0, 1, 3], False)],
)
def test_invalid_range_names_the_cursor(around, fits) -> None:
    assert log(29, around=around).range_fits(stack_size=4) is fits


def test_differing_counts_rows_not_values() -> None:
    one, two = log(29), log(39)
    two.actions[[0, 3, 9]] = 1
    two.rewards[3] = 1
    assert one.differing(two, [(0, 5)]) == 2 and one.differing(two, [(4, 10), (0, 1)]) == 2


# ---- reading a log's files: what comes out, also when the frames may not be touched ----


def test_without_the_observation_file_nothing_of_it_is_read(tmp_path) -> None:
    write_replay(tmp_path, [13] * 8, capacity=48)
    bucket = Bucket.of(tmp_path.as_uri())
    groups = group_by_checkpoint(list_objects(bucket, "Freeway", 1))
    whole = read_log(1, groups[1], bucket)
    (tmp_path / log_folder("Freeway", 1) / file_name("observation", 1)).unlink()
    small = read_log(1, {kind: item for kind, item in groups[1].items() if kind != "observation"}, bucket)
    assert isinstance(whole, RingLog) and isinstance(small, RingLog)
    assert (small.checkpoint, small.add_count) == (1, 95) == (whole.checkpoint, whole.add_count)
    assert (small.actions.dtype, small.rewards.dtype, small.terminals.dtype) == (np.uint8, np.float32, np.uint8)
    assert small.differing(whole, [(0, 48)]) == 0
    assert small.invalid_range.tolist() == [46, 47, 0, 1, 2]
