"""Patterns of padding, alone and pooled, and the table that keeps the evidence."""

import pytest

from pipelines.sources.dqn_replay.log_facts import LogFacts, Padding, TerminalCounts, pooled, to_table
from pipelines.sources.dqn_replay.log_order import Continuity


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
