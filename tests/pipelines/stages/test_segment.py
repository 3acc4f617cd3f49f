"""The segments stage on toy trajectories."""

import numpy as np
import pandas as pd
import pytest

from pipelines.batches.segments import FILE_NAME, read_table
from pipelines.errors import UsageError
from pipelines.stages import segment
from pipelines.stages.segment import SegmentConfig
from pipelines.store.store import Store
from tests.pipelines.sources.dqn_replay.toy import write_replay
from tests.pipelines.stages.helpers import make_replay, make_segments, make_trajectories, nothing_left, put_collected


@pytest.fixture
def made(tmp_path):
    store = Store(tmp_path / "store")
    write_replay(tmp_path / "b", [10] * 4, capacity=59)
    return store, make_trajectories(store, make_replay(store, put_collected(store, tmp_path / "b")))


@pytest.mark.parametrize("padding", ["right", "left"])
def test_counts_share_of_padding_and_columns(made, padding) -> None:
    store, trajectories = made
    artefact = make_segments(store, trajectories, padding=padding)
    table = pd.read_parquet(artefact.path(FILE_NAME))
    assert artefact.manifest.counts == {"segments": 12, "episodes": 4, "transitions": 40} and len(table) == 12
    np.testing.assert_array_equal(read_table(artefact.folder), table.iloc[:, :3])
    # right: 8, 6, 2 real steps of 8 each; left: 2, 6, 8
    assert artefact.manifest.metrics["padding_share"] == round(1 - 16 / 24, 6)
    assert all(check.passed for check in artefact.manifest.checks)


def test_a_stride_that_skips_terminal_steps_blocks(made) -> None:
    store, trajectories = made
    artefact = make_segments(store, trajectories, length=2, stride=4)
    assert [check.passed for check in artefact.manifest.checks if check.blocking] == [True]
    artefact = make_segments(store, trajectories, length=2, stride=7)
    assert [check.passed for check in artefact.manifest.checks if check.blocking] == [False]


def test_wrong_requests_are_usage_errors(made) -> None:
    store, trajectories = made
    with pytest.raises(UsageError, match="need trajectories"):
        segment.run(SegmentConfig("Freeway"), store)
    with pytest.raises(UsageError, match="not of Pong"):
        segment.run(SegmentConfig("Pong", trajectories.ref), store)
    assert nothing_left(store, "segments")
