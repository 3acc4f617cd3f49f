"""The original's reading against the plainest loop that does the same."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.readings import read_per_file
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
    assert len(found.evidence) == len(ring.taken)


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
