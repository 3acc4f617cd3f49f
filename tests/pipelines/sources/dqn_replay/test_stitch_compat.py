"""The original's reading against the plainest loop that does the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.log_order import Continuity
from pipelines.sources.dqn_replay.ring_log import NO_COUNT, RingLog
from pipelines.sources.dqn_replay.stitch import read_episodes, read_per_file, stack_size
from tests.pipelines.sources.dqn_replay.test_naive import rows_of
from tests.pipelines.sources.dqn_replay.toy import Kept, play


def as_the_original(ring: Kept) -> list[list[tuple[int, int]]]:
    episodes = []
    for log in ring.taken[1:]:
        episode = []
        for row in range(log.capacity):
            episode.append((log.checkpoint, row))
            if log.terminals[row]:
                episodes.append(episode)
                episode = []
    return episodes


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 50), st.integers(1, 5), st.lists(st.integers(1, 40), min_size=1, max_size=14), st.integers(0, 99))
def test_any_ring_as_a_plain_loop_reads_it(capacity, stack_size, lengths, seed) -> None:
    assume(capacity > stack_size + 1)
    ring = Kept(capacity, stack_size)
    play(ring, Path(), lengths, seed)
    expected = as_the_original(ring)
    if ring.taken[0].add_count == 0 or not expected:
        with pytest.raises(WorldlineError):
            read_per_file(ring.taken, 1, stack_size)
        return
    found = read_per_file(ring.taken, 1, stack_size)
    assert rows_of(found) == expected
    logs = {log.checkpoint: log for log in ring.taken}
    assert found.episodes["return"].tolist() == [sum(logs[f].rewards[r] for f, r in rows) for rows in expected]
    assert found.episodes["complete"].all() and found.episodes["terminated"].all()
    assert not found.episodes["truncated"].any()
    assert len(found.facts) == len(ring.taken)


def test_file_0_alone_leaves_nothing() -> None:
    ring = Kept(capacity=100, stack_size=4)
    play(ring, Path(), [9, 9])
    assert len(ring.taken) == 1
    with pytest.raises(WorldlineError, match="leaves nothing") as caught:
        read_per_file(ring.taken, 1, 4)
    assert "\n" not in str(caught.value)


def test_pieces_start_at_row_0_of_each_file() -> None:
    ring = Kept(capacity=48, stack_size=4)
    play(ring, Path(), [13] * 12)
    found = read_per_file(ring.taken, 1, 4)
    firsts = found.episodes.groupby("first_file")["first_row"].min()
    assert np.array_equal(firsts, np.zeros(len(ring.taken) - 1))


# ---- each reading that a config names, and the stack size by majority ----


@pytest.fixture
def ring() -> Kept:
    made = Kept(capacity=50, stack_size=3)
    play(made, Path(), [13] * 20, unfinished=2)
    return made


def test_each_reading_is_another(ring) -> None:
    def rows(**options) -> int:
        return int(read_episodes(ring.taken, "Freeway", 1, **options).episodes["length"].sum())

    assert rows() == 20 * 13 + 2
    assert rows(keep_padding=True) == 20 * 15 + 4
    assert rows(compat="jowa") not in (rows(), rows(keep_padding=True))


def test_the_stack_size_is_what_most_logs_say(ring) -> None:
    short = replace(ring.taken[0], invalid_range=np.zeros(1, np.int64))
    assert stack_size([short, *ring.taken[1:]], "Freeway/1") == 3
    with pytest.raises(WorldlineError, match="Freeway/1: invalid_range has length 1"):
        stack_size([short], "Freeway/1")


# ---- without add_count and invalid_range, as JOWA's own download is ----


def without_side_files(log: RingLog) -> RingLog:
    return replace(log, add_count=NO_COUNT, invalid_range=np.zeros(0, np.int64))


def test_the_original_needs_no_count(ring) -> None:
    taken = [without_side_files(log) for log in ring.taken[1:]]
    found, counted = (read_episodes(logs, "Freeway", 1, compat="jowa") for logs in (taken, ring.taken))
    assert found.episodes.equals(counted.episodes) and found.pieces.equals(counted.pieces)
    assert {each.continuity for each in found.facts} == {Continuity.UNCOUNTED}
    assert [(each.add_count, each.fresh, each.rows) for each in found.facts] == [(NO_COUNT, 0, 50)] * len(taken)


def test_a_count_that_some_logs_lack_is_used_for_none(ring) -> None:
    taken = [ring.taken[0], without_side_files(ring.taken[1]), *ring.taken[2:]]
    found = read_episodes(taken, "Freeway", 1, compat="jowa")
    assert rows_of(found) == as_the_original(ring)
    assert {each.continuity for each in found.facts} == {Continuity.UNCOUNTED}
    with pytest.raises(WorldlineError, match="add_count -1"):
        read_episodes(taken, "Freeway", 1)
