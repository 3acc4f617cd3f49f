"""Logs row by row against what Dopamine's buffer would have written, by hand, and what counts say of rows."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.sources.dqn_replay.listing import ALL_KINDS, file_name, list_objects, log_folder
from pipelines.sources.dqn_replay.ring_log import RingLog, RingWriter, read_log, row_ranges
from pipelines.sources.dqn_replay.source import by_checkpoint
from tests.pipelines.sources.dqn_replay.toy import write_replay

SIDE = 2  # frames are SIDE x SIDE here


def load(folder: Path, kind: str, log: int) -> NDArray:
    with gzip.open(folder / file_name(kind, log)) as file:
        return np.load(file, allow_pickle=False)


def play(ring: RingWriter, lengths: list[int]) -> None:
    """Episodes of the given lengths; the action numbers the transition, from 1."""
    step = 0
    for length in lengths:
        for left in range(length - 1, -1, -1):
            step += 1
            ring.add(np.full((SIDE, SIDE), step % 256, np.uint8), step, step % 3 - 1, left == 0)


def test_blank_rows_precede_each_episode_and_the_last_row_is_not_yet_written(tmp_path: Path) -> None:
    ring = RingWriter(tmp_path, capacity=8, stack_size=3, frame_shape=(SIDE, SIDE))
    play(ring, [2, 1])
    assert load(tmp_path, "action", 0).tolist() == [0, 0, 1, 2, 0, 0, 3, 0]
    assert load(tmp_path, "terminal", 0).tolist() == [0, 0, 0, 1, 0, 0, 1, 0]
    assert load(tmp_path, "reward", 0).tolist() == [0, 0, 0, 1, 0, 0, -1, 0]
    assert ring.logs == 1


def test_first_log_fires_one_row_early_and_the_second_shows_the_lap_before(tmp_path: Path) -> None:
    ring = RingWriter(tmp_path, capacity=8, stack_size=3, frame_shape=(SIDE, SIDE))
    play(ring, [100])
    assert load(tmp_path, "action", 0).tolist() == [0, 0, 1, 2, 3, 4, 5, 0]
    assert load(tmp_path, "action", 1).tolist() == [7, 8, 9, 10, 11, 12, 13, 6]
    assert load(tmp_path, "observation", 1)[:, 0, 0].tolist() == [7, 8, 9, 10, 11, 12, 13, 6]
    assert load(tmp_path, "add_count", 1) == 15
    assert load(tmp_path, "invalid_range", 1).tolist() == [6, 7, 0, 1]
    ring.close()
    last = ring.logs - 1
    fresh = int(load(tmp_path, "add_count", last))
    assert fresh == 102 % 8
    assert load(tmp_path, "action", last).tolist() == [95, 96, 97, 98, 99, 100, 93, 94]
    stale = load(tmp_path, "action", last - 1)[fresh:].tolist()
    assert load(tmp_path, "action", last)[fresh:].tolist() == [stale[0], 94]


def test_blank_rows_can_jump_over_the_moment_and_a_lap_has_no_log(tmp_path: Path) -> None:
    ring = RingWriter(tmp_path, capacity=8, stack_size=3, frame_shape=(SIDE, SIDE))
    play(ring, [4, 9])  # rows 0-5 hold the first episode; the blanks land on rows 6 and 7, the next step on row 0
    assert ring.logs == 1
    assert load(tmp_path, "add_count", 0) == 15


@given(st.lists(st.integers(1, 30), max_size=12), st.integers(1, 4), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_side_files_agree_with_the_rows(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], stack: int, extra: int
) -> None:
    folder = tmp_path_factory.mktemp("ring")
    ring = RingWriter(folder, capacity=stack + 2 + extra, stack_size=stack, frame_shape=(SIDE, SIDE))
    play(ring, lengths)
    rows = sum(lengths) + (stack - 1) * len(lengths)
    assert ring.add_count == rows
    ring.close()
    for log in range(ring.logs):
        arrays = {kind: load(folder, kind, log) for kind in ALL_KINDS}
        assert [arrays[kind].dtype for kind in ALL_KINDS] == [
            np.uint8,
            np.int32,
            np.float32,
            np.uint8,
            np.int64,
            np.int64,
        ]
        assert arrays["observation"].shape == (ring.capacity, SIDE, SIDE)
        cursor = int(arrays["add_count"]) % ring.capacity
        assert arrays["invalid_range"].tolist() == [(cursor - 1 + i) % ring.capacity for i in range(stack + 1)]
        blank = arrays["action"] == 0
        for kind in ("observation", "reward", "terminal"):
            assert not arrays[kind][blank].any()
        assert cursor == ring.capacity - 1 or log == ring.logs - 1


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ring = RingWriter(tmp_path / name, capacity=16, frame_shape=(SIDE, SIDE))
        play(ring, [5, 7, 20])
        ring.close()
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_small_rings_and_foreign_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too small"):
        RingWriter(tmp_path, capacity=5)
    ring = RingWriter(tmp_path, capacity=10)
    with pytest.raises(ValueError, match=r"\(1, 84, 84\)"):
        ring.add(np.zeros((1, 84, 84), np.uint8), 0, 0.0, False)


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
    groups = by_checkpoint(list_objects(bucket, "Freeway", 1))
    whole = read_log(1, groups[1], bucket)
    (tmp_path / log_folder("Freeway", 1) / file_name("observation", 1)).unlink()
    small = read_log(1, {kind: item for kind, item in groups[1].items() if kind != "observation"}, bucket)
    assert isinstance(whole, RingLog) and isinstance(small, RingLog)
    assert (small.checkpoint, small.add_count) == (1, 95) == (whole.checkpoint, whole.add_count)
    assert (small.actions.dtype, small.rewards.dtype, small.terminals.dtype) == (np.uint8, np.float32, np.uint8)
    assert small.differing(whole, [(0, 48)]) == 0
    assert small.invalid_range.tolist() == [46, 47, 0, 1, 2]
