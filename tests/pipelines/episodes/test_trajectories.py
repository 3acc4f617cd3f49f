"""The trajectory file: slots filled in any order come back; processes do not share a handle."""

import multiprocessing
import pickle

import h5py
import numpy as np
import pytest

from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter
from pipelines.errors import WorldlineError

LENGTHS = [5, 40, 1, 22]
FRAMES = np.random.default_rng(0).integers(0, 255, (sum(LENGTHS), 84, 84), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "trajectories.h5"
    with TrajectoryWriter(path, "Freeway", ["NOOP", "UP", "DOWN"], LENGTHS) as writer:
        for start in (60, 20, 40, 0):
            writer.write("observations", start, FRAMES[start : start + 20])
        writer.write("actions", 0, np.arange(68, dtype=np.uint8) % 3)
        writer.write("source_rows", 0, np.tile(np.array([[1, 2, 3]], np.int32), (68, 1)))
    return path


def test_what_was_written_comes_back(path) -> None:
    found = Trajectories(path)
    assert (len(found), found.num_episodes, found.game) == (68, 4, "Freeway")
    assert found.action_names == ("NOOP", "UP", "DOWN")
    np.testing.assert_array_equal(found.frames(0, 68), FRAMES)
    np.testing.assert_array_equal(found.frames(15, 33), FRAMES[15:33])
    np.testing.assert_array_equal(found.source_rows(3, 5), [[1, 2, 3], [1, 2, 3]])
    assert found.episode_starts.tolist() == [0, 5, 45, 46, 68]
    assert found.episode_of(np.array([0, 4, 5, 44, 45, 46, 67])).tolist() == [0, 0, 1, 1, 2, 3, 3]
    with h5py.File(path) as file:
        assert file["observations"].chunks == (16, 84, 84)


def _child(found: Trajectories, queue) -> None:
    queue.put(found.frames(10, 12))


def test_a_forked_process_opens_its_own_handle(path) -> None:
    found = Trajectories(path)
    np.testing.assert_array_equal(found.frames(0, 3), FRAMES[:3])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(found, queue))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=30), FRAMES[10:12])
    child.join(timeout=30)
    assert child.exitcode == 0
    np.testing.assert_array_equal(found.frames(0, 3), FRAMES[:3])


def test_no_handle_is_pickled(path) -> None:
    found = Trajectories(path)
    found.frames(0, 1)
    copy = pickle.loads(pickle.dumps(found))  # noqa: S301  # our own bytes, as data loader workers exchange them
    np.testing.assert_array_equal(copy.frames(0, 3), FRAMES[:3])


def test_writing_outside_the_slots_is_refused(tmp_path) -> None:
    with TrajectoryWriter(tmp_path / "t.h5", "Freeway", ["NOOP"], [4]) as writer:
        for start in (-1, 3):
            with pytest.raises(ValueError, match="do not fit"):
                writer.write("observations", start, FRAMES[:2])
    with pytest.raises(WorldlineError, match="at least one episode"):
        TrajectoryWriter(tmp_path / "u.h5", "Freeway", ["NOOP"], [])


def test_a_damaged_file_is_one_line(path) -> None:
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WorldlineError, match="no readable trajectory file"):
        Trajectories(path)
    with h5py.File(path, "w") as file:
        file["actions"] = np.zeros(3)
    with pytest.raises(WorldlineError, match="no readable trajectory file"):
        Trajectories(path)
