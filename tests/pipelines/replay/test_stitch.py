"""Stitching against the stream that the writer was given: nothing twice, nothing joined wrongly, nothing lost."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.errors import WorldlineError
from pipelines.replay.listing import list_objects
from pipelines.replay.log_reader import read_array
from pipelines.replay.stitch import RingLog, Stitched, stitch
from tests.pipelines.replay.toy import Truth, write_replay


def read_logs(root: Path, game: str = "Freeway", agent: int = 1) -> list[RingLog]:
    arrays: dict[int, dict] = {}
    for item in list_objects(root.as_uri(), game, agent):
        if item.log.kind != "observation":
            arrays.setdefault(item.log.checkpoint, {})[item.log.kind] = read_array(item.url)
    return [
        RingLog(n, int(kinds["add_count"]), kinds["action"], kinds["reward"], kinds["terminal"])
        for n, kinds in arrays.items()
    ]


def stream_indices(found: Stitched, truth: Truth) -> list[list[int]]:
    """For each episode the add numbers of its rows, from the laps that the writer recorded."""
    episodes: list[list[int]] = [[] for _ in range(len(found.episodes))]
    for episode, file, start, stop in found.pieces.itertuples(index=False):
        for row in range(start, stop):
            lap = truth.logged[file] - (row == truth.capacity - 1)
            episodes[episode].append(lap * truth.capacity + row)
    return episodes


def check_exact(found: Stitched, truth: Truth) -> None:
    """Every claim of the table against the truth."""
    episodes = stream_indices(found, truth)
    everything = [index for episode in episodes for index in episode]
    assert len(everything) == len(set(everything)), "a row appears twice"
    truths = {episode[0]: episode for episode in truth.episodes}
    owner = {index: number for number, episode in enumerate(truth.episodes) for index in episode}
    for claim, indices in zip(found.episodes.itertuples(), episodes, strict=True):
        assert claim.length == len(indices)
        assert np.all(np.diff(indices) == 1), "rows that are not neighbours were joined"
        real = [index for index in indices if index in owner]
        assert len({owner[index] for index in real}) <= 1, "two episodes were joined"
        assert claim._4 == sum(truth.rewards[index] for index in real)
        if claim.complete:
            assert indices == truths[indices[0]] and truth.terminals[indices[-1]]
            assert claim.checkpoint == found.pieces[found.pieces.episode == claim.Index]["file"].iloc[-1]
        else:  # blank rows only at the head of a stream that starts midway
            blank = [index for index in indices if index not in owner]
            assert len(blank) < truth.stack_size and blank == indices[: len(blank)]
    assert found.unpadded == 0
    # What the files hold at all: each logged lap but its last row, and the row before it.
    last = max(truth.frames)
    kept = set()
    for lap in truth.logged:
        kept |= set(range(max(lap * truth.capacity - 1, 0), min((lap + 1) * truth.capacity - 1, last + 1)))
    if len(truth.logged) == 1:  # a lone final log cannot prove what its last row is
        kept.discard(truth.logged[0] * truth.capacity - 1)
    assert set(owner) & kept <= set(everything), "a logged transition was lost"
    laps = sorted(set(truth.logged))
    gaps = int(np.sum(np.diff(laps) > 1))
    assert found.gaps >= gaps
    alone = len(truth.logged) == 1 and truth.logged[0] * truth.capacity + truth.capacity - truth.stack_size <= last + 1
    if found.gaps == gaps and not alone:  # every join was proven, so every whole episode must have been found
        complete = {rows[0] for claim, rows in zip(found.episodes.complete, episodes, strict=True) if claim}
        for episode in truth.episodes:
            before = range(max(episode[0] - truth.stack_size, 0), episode[0])
            blank = [index for index in before if index not in owner]
            known = kept.issuperset(episode) and kept.issuperset(before)
            if known and truth.terminals[episode[-1]]:
                assert episode[0] in complete, "a whole episode was not recognised"


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(8, 60),
    stack_size=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 45), max_size=14),
    unfinished=st.integers(0, 30),
    seed=st.integers(0, 2**16),
    idle=st.sampled_from([0.0, 0.3, 1.0]),
)
@example(capacity=23, stack_size=5, lengths=[1, 9], unfinished=1, seed=0, idle=0.0)
def test_any_ring_is_stitched_exactly(capacity, stack_size, lengths, unfinished, seed, idle) -> None:
    if not lengths and not unfinished:
        unfinished = 1
    with tempfile.TemporaryDirectory() as folder:
        truth = write_replay(
            Path(folder), lengths, capacity, stack_size, seed, frame_shape=(1, 1), unfinished=unfinished, idle=idle
        )
        logs = read_logs(Path(folder))
        if [log.add_count for log in logs] == [0]:  # the writer lost its only lap, and the final log has no new row
            with pytest.raises(WorldlineError, match="no transition"):
                stitch(logs, agent=1, stack_size=stack_size)
        else:
            check_exact(stitch(logs, agent=1, stack_size=stack_size), truth)


def test_a_plain_run_loses_only_its_unfinished_tail(tmp_path) -> None:
    truth = write_replay(tmp_path, [13] * 20, capacity=48, frame_shape=(1, 1), unfinished=5)
    found = stitch(read_logs(tmp_path), agent=3, stack_size=4)
    check_exact(found, truth)
    assert found.gaps == 0
    assert found.episodes.complete.sum() == 20 and len(found.episodes) == 21
    assert not found.episodes.terminated.iloc[-1]
    assert set(found.episodes.agent) == {3}


def test_a_missing_log_is_a_gap_and_nothing_is_joined_over_it(tmp_path) -> None:
    truth = write_replay(tmp_path, [13] * 20, capacity=48, frame_shape=(1, 1))
    logs = read_logs(tmp_path)
    found = stitch(logs[:2] + logs[3:], agent=1, stack_size=4)
    assert found.gaps == 1
    for claim, indices in zip(found.episodes.itertuples(), stream_indices(found, truth), strict=True):
        assert np.all(np.diff(indices) == 1)
        assert not claim.complete or indices in truth.episodes


def test_time_limit_is_a_truncation_not_a_death(tmp_path) -> None:
    write_replay(tmp_path, [9, 12, 9], capacity=60, frame_shape=(1, 1))
    found = stitch(read_logs(tmp_path), agent=1, stack_size=4, time_limit=12)
    assert found.episodes.truncated.tolist() == [False, True, False]
    assert found.episodes.terminated.tolist() == [True, False, True]


def ring(checkpoint: int, add_count: int, capacity: int = 10) -> RingLog:
    zeros = np.zeros(capacity, np.int64)
    return RingLog(checkpoint, add_count, zeros, zeros.astype(np.float32), zeros)


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        ([], "No replay log"),
        ([ring(0, 0)], "no transition"),
        ([ring(0, 9), ring(1, 19, capacity=20)], "one ring size"),
        ([ring(1, 9), ring(0, 19)], "ascending"),
        ([ring(0, 5), ring(1, 19)], "only the last log"),
        ([ring(0, 9), ring(1, 14)], "add_count 14"),
        ([ring(0, -3)], "add_count -3"),
    ],
)
def test_logs_that_contradict_each_other_are_refused(logs, words) -> None:
    with pytest.raises(WorldlineError, match=words) as caught:
        stitch(logs, agent=1, stack_size=4)
    assert "\n" not in str(caught.value)


def test_a_missing_blank_row_is_counted(tmp_path) -> None:
    write_replay(tmp_path, [9, 12, 9], capacity=60, frame_shape=(1, 1))
    logs = read_logs(tmp_path)
    end = int(np.flatnonzero(logs[0].terminals)[0])
    actions = logs[0].actions.copy()
    actions[end + 2] = 1
    spoiled = RingLog(0, logs[0].add_count, actions, logs[0].rewards, logs[0].terminals)
    found = stitch([spoiled], agent=1, stack_size=4)
    assert found.unpadded == 1 and not found.episodes.complete.iloc[1]
