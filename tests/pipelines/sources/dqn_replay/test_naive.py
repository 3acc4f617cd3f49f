"""10,500 steps in a ring of 1,000 rows, read three ways: one file after another, file by file, and stitched."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.sources.dqn_replay.stitch import Stitched, read_per_file, stitch
from tests.pipelines.sources.dqn_replay.naive import Faults, Rows, count, one_after_another
from tests.pipelines.sources.dqn_replay.toy import Kept, Truth, play


@pytest.fixture(scope="module")
def toy() -> tuple[Kept, Truth]:
    lengths = np.random.default_rng(0).integers(20, 140, 160).tolist()
    whole = int(np.searchsorted(np.cumsum(lengths), 10_500))
    ring = Kept(capacity=1000, stack_size=4)
    return ring, play(ring, Path(), lengths[:whole], unfinished=10_500 - sum(lengths[:whole]))


def rows_of(found: Stitched) -> list[Rows]:
    """The rows of each episode."""
    episodes: list[Rows] = [[] for _ in range(len(found.episodes))]
    for episode, file, start, stop in found.pieces.itertuples(index=False):
        episodes[episode] += [(file, row) for row in range(start, stop)]
    return episodes


def test_one_file_after_another_is_wrong_in_every_way(toy) -> None:
    ring, truth = toy
    assert len(truth.frames) == 10_500 and len(ring.taken) == 11
    found = count(one_after_another(ring), truth)
    assert found == Faults(unwritten=1, padding=393, duplicates=106, wrong_joins=20)


def test_file_by_file_is_wrong_in_most_ways(toy) -> None:
    ring, truth = toy
    found = count(rows_of(read_per_file(ring.taken, agent=1, stack_size=4)), truth)
    assert found == Faults(unwritten=0, padding=323, duplicates=97, wrong_joins=1)


def test_stitched_is_right_in_every_way(toy) -> None:
    ring, truth = toy
    found = stitch(ring.taken, agent=1, stack_size=4)
    assert count(rows_of(found), truth) == Faults()
    assert found.episodes["length"].sum() == 10_500, "nothing is lost"
    assert int(found.episodes["complete"].sum()) == len(truth.episodes) - 1
