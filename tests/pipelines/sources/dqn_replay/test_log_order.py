"""Which rows of a log are new by its count, when the last log's lap counts as proven, and the facts that are kept."""

import numpy as np
import pytest

from pipelines.sources.dqn_replay.log_order import (
    TELLING,
    Continuity,
    LogFacts,
    Padding,
    TerminalCounts,
    order_logs,
    pooled,
    to_table,
)
from pipelines.sources.dqn_replay.ring_log import RingLog

CAPACITY = 20


def log(checkpoint: int, add_count: int, total: int | None = None) -> RingLog:
    """A ring whose rows hold their own add numbers; `total` is the true count where add_count is another."""
    newest = (add_count if total is None else total) - 1
    numbers = newest - (newest - np.arange(CAPACITY)) % CAPACITY
    actions = np.where(numbers < 0, 0, numbers + 1)
    return RingLog(checkpoint, add_count, actions, np.zeros(CAPACITY, np.float32), np.zeros(CAPACITY, np.uint8))


@pytest.mark.parametrize(
    ("counts", "last"),
    [
        ([19, 39], (Continuity.JOINED, 19, 39, 0, 0)),  # a lap each: nothing is held twice
        ([19, 59], (Continuity.GAP, 39, 59, 0, 20)),
        ([25, 31], (Continuity.JOINED, 25, 31, 14, 0)),
        ([25, 60], (Continuity.GAP, 40, 60, 0, 15)),
        ([45, 45], (Continuity.AGAIN, 45, 45, 20, 0)),
        ([45, 41], (Continuity.BACK, 21, 41, 0, 0)),
    ],
)
def test_counts_at_their_word(counts, last) -> None:
    found = order_logs([log(n, count) for n, count in enumerate(counts)], stack_size=4)[-1]
    assert (found.continuity, found.first, found.stop, found.overlap, found.missing) == last
    assert not found.reset and not found.differing


@pytest.mark.parametrize(
    ("before", "true", "border", "fresh"),
    [
        (39, 47, Continuity.JOINED, 8),  # 7 rows from row 0 on, and the one before
        (39, 67, Continuity.GAP, 8),  # a lap went unlogged: the stale rows are not those of the log before
        (39, 39, Continuity.AGAIN, 0),
        (39, 59, Continuity.GAP, 20),
        (25, 25 + CAPACITY - TELLING, Continuity.JOINED, CAPACITY - TELLING),  # just enough rows agree
        (25, 25 + CAPACITY - TELLING + 1, Continuity.UNPROVEN, CAPACITY - TELLING + 1),
    ],
)
def test_a_count_that_was_reset_is_proven_by_the_rows(before, true, border, fresh) -> None:
    found = order_logs([log(0, before), log(1, true % CAPACITY, true)], stack_size=4)[-1]
    assert found.reset and (found.continuity, found.stop - found.first) == (border, fresh)


def test_a_log_missing_in_between_proves_nothing() -> None:
    assert order_logs([log(0, 39), log(2, 7, 47)], stack_size=4)[-1].continuity == Continuity.UNPROVEN


@pytest.mark.parametrize(
    ("padded", "bare", "pattern"),
    [(0, 0, Padding.UNKNOWN), (3, 0, Padding.ALL), (0, 3, Padding.NONE), (3, 1, Padding.MIXED)],
)
def test_the_pattern_inside_a_file(padded, bare, pattern) -> None:
    assert TerminalCounts(padded=padded, bare=bare).padding == pattern


@pytest.mark.parametrize(
    ("patterns", "whole"),
    [
        ([Padding.ALL, Padding.UNKNOWN], Padding.ALL),
        ([Padding.NONE, Padding.UNKNOWN, Padding.NONE], Padding.NONE),
        ([Padding.ALL, Padding.NONE], Padding.MIXED),
        ([Padding.MIXED], Padding.MIXED),
        ([Padding.UNKNOWN], Padding.ALL),
        ([], Padding.ALL),
    ],
)
def test_files_that_cannot_tell_follow_those_that_can(patterns, whole) -> None:
    assert pooled(patterns) == whole


def test_the_table_survives_parquet(tmp_path) -> None:
    seen = [LogFacts(0, Continuity.FIRST, 999, 1000, padding=Padding.ALL), LogFacts(4, Continuity.LEFT_OUT)]
    to_table(seen).to_parquet(tmp_path / "e.parquet")
    assert to_table(seen)["border"].tolist() == ["first", "left out"]
    assert list(to_table([]).columns) == list(to_table(seen).columns)
