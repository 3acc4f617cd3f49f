"""The ring's logs, row by row, against what Dopamine's buffer would have written (worked out by hand)."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.sources.dqn_replay.listing import ALL_KINDS, file_name
from pipelines.sources.dqn_replay.ring_writer import RingWriter

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
