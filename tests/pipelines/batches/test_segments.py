"""Segment arithmetic against a plain loop, and the cases that are easy to get wrong, typed by hand."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.batches import segments
from pipelines.batches.segments import (
    COLUMNS,
    TOKENS_NAME,
    Segmentation,
    TokenWriter,
    last_episode,
    open_tokens,
    real_steps,
    segment_index,
    to_table,
)
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from tests.fakes import Synced, spec


def by_hand(lengths: list[int], length: int, stride: int, padding: str) -> list[tuple[int, int, int]]:
    found = []
    for episode, steps in enumerate(lengths):
        if padding == "right":
            found += [(episode, start, min(start + length, steps)) for start in range(0, steps, stride)]
        else:
            ends = sorted(range(steps, 0, -stride))
            found += [(episode, end - length, end) for end in ends]
    return found


def starts_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["right", "left"]),
)
def test_index_equals_a_plain_loop(lengths, length, stride, padding) -> None:
    index = segment_index(starts_of(lengths), length, stride, padding)
    assert [tuple(row) for row in index.tolist()] == by_hand(lengths, length, stride, padding)
    if stride <= length:  # then every step is seen, the terminal one included
        for episode, steps in enumerate(lengths):
            seen = {step for e, a, b in index.tolist() if e == episode for step in range(max(a, 0), b)}
            assert seen == set(range(steps))


def test_the_papers_windows() -> None:
    right = segment_index(starts_of([23]), 8, 4, "right")
    assert right[:, 1:].tolist() == [[0, 8], [4, 12], [8, 16], [12, 20], [16, 23], [20, 23]]
    left = segment_index(starts_of([23]), 8, 4, "left")
    assert left[:, 1:].tolist() == [[-5, 3], [-1, 7], [3, 11], [7, 15], [11, 19], [15, 23]]
    assert real_steps(right).tolist() == [8, 8, 8, 8, 7, 3]
    assert real_steps(left).tolist() == [3, 7, 8, 8, 8, 8]


def test_table_has_the_original_columns() -> None:
    table = to_table(segment_index(starts_of([9, 5]), 8, 4, "right"), "Freeway")
    assert tuple(table.columns) == COLUMNS == ("Episode index", "Start index", "End index", "Environment")
    assert set(table["Environment"]) == {"Freeway"} and len(table) == 5


def test_unknown_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="middle"):
        segment_index(starts_of([9]), 8, 4, "middle")


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["right", "left"]),
    st.data(),
)
def test_any_rows_come_without_the_table(lengths, length, stride, padding, data) -> None:
    expected = by_hand(lengths, length, stride, padding)
    segments = Segmentation(starts_of(lengths), length, stride, padding)
    assert len(segments) == len(expected)
    for outside in (-1, len(expected)):
        with pytest.raises(IndexError, match="numbered 0 to"):
            segments[np.array([outside])]
    if not expected:
        return
    wanted = data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=20))
    found = segments[np.array(wanted, np.int64)]
    assert (found.shape, found.dtype) == ((len(wanted), 3), np.int64)
    assert [tuple(row) for row in found.tolist()] == [expected[index] for index in wanted]
    assert segments.last_episode == last_episode(segments) == last_episode(segments.table()) == expected[-1][0]
    kept = data.draw(st.integers(1, len(lengths)))
    first = segments.first_episodes(kept).table()
    np.testing.assert_array_equal(first, segments.table()[segments.table()[:, 0] < kept])


def test_impossible_windows_are_refused() -> None:
    for length, stride in ((0, 4), (8, 0), (-1, 1)):
        with pytest.raises(ValueError, match="at least 1"):
            Segmentation(starts_of([9]), length, stride, "right")


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 1 << 16, (count, 4), dtype=np.uint16)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.integers(0, 25), min_size=1, max_size=8).filter(sum))
def test_any_pieces_across_shards_come_back(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, pieces: list[int]
) -> None:
    monkeypatch.setattr(segments, "TOKENS_CHUNK", 8)
    monkeypatch.setattr(segments, "TOKENS_SHARD", 16)
    path = tmp_path_factory.mktemp("tokens") / TOKENS_NAME
    values = rows(sum(pieces))
    writer = TokenWriter(path, len(values), 4)
    for piece in np.split(values, np.cumsum(pieces)[:-1]):
        writer.append(piece)
    writer.close()
    assert np.array_equal(zarr.open_array(store=str(path), mode="r")[:], values)


@pytest.mark.parametrize("written", [0, 9])
def test_missing_rows_are_refused(tmp_path: Path, written: int) -> None:
    writer = TokenWriter(tmp_path / TOKENS_NAME, 10, 4)
    writer.append(rows(written))
    with pytest.raises(WorldlineError, match=f"{written} token rows were written, 10 were announced"):
        writer.close()


def test_the_memory_map_is_unpacked_once_and_read_only(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = rows(100)

    def build(draft) -> None:
        writer = TokenWriter(draft.path(TOKENS_NAME), 100, 4)
        writer.append(values)
        writer.close()

    artefact = store.produce(spec("tokens"), build).artefact
    synced = Synced(monkeypatch)
    (first,) = open_tokens([artefact], tmp_path)
    assert np.array_equal(first, values)
    assert first.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1
    (path,) = tmp_path.glob("tokens-*.npy")
    assert path in synced, "zeros after a power cut would be tokens like any others"
    before = path.stat().st_mtime_ns
    assert np.array_equal(open_tokens([artefact], tmp_path)[0], values)
    assert path.stat().st_mtime_ns == before
    assert list(tmp_path.glob(".tokens-*")) == []
