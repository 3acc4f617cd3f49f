"""Patterns of padding, alone and pooled, and the table that keeps the evidence."""

import pytest

from pipelines.sources.dqn_replay.log_facts import Endings, Evidence, Padding, pooled, table
from pipelines.sources.dqn_replay.log_order import Border


@pytest.mark.parametrize(
    ("padded", "bare", "pattern"),
    [(0, 0, Padding.UNTOLD), (3, 0, Padding.ALL), (0, 3, Padding.NONE), (3, 1, Padding.MIXED)],
)
def test_the_pattern_inside_a_file(padded, bare, pattern) -> None:
    assert Endings(padded=padded, bare=bare).padding == pattern


@pytest.mark.parametrize(
    ("patterns", "whole"),
    [
        ([Padding.ALL, Padding.UNTOLD], Padding.ALL),
        ([Padding.NONE, Padding.UNTOLD, Padding.NONE], Padding.NONE),
        ([Padding.ALL, Padding.NONE], Padding.MIXED),
        ([Padding.MIXED], Padding.MIXED),
        ([Padding.UNTOLD], Padding.ALL),
        ([], Padding.ALL),
    ],
)
def test_files_that_cannot_tell_follow_those_that_can(patterns, whole) -> None:
    assert pooled(patterns) == whole


def test_the_table_survives_parquet(tmp_path) -> None:
    seen = [Evidence(0, Border.FIRST, 999, 1000, padding=Padding.ALL), Evidence(4, Border.LEFT_OUT)]
    table(seen).to_parquet(tmp_path / "e.parquet")
    assert table(seen)["border"].tolist() == ["first", "left out"]
    assert list(table([]).columns) == list(table(seen).columns)
