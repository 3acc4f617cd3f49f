"""The trajectory file: slots filled in any order come back, packed or not; processes do not share a handle."""

import multiprocessing
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest

from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter, frame_shape_of, pack, unpack
from pipelines.errors import WorldlineError

ROUND = """
import sys
if sys.argv[2] == "gzip":
    sys.modules["hdf5plugin"] = None  # as if it were not installed
from pathlib import Path
import numpy as np
from pipelines.episodes.trajectories import COMPRESSION, pack
from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter
frames = np.random.default_rng(0).integers(0, 9, (40, 84, 84), dtype=np.uint8)
whole = np.concatenate([frames, np.zeros((8, 84, 84), np.uint8)])
with TrajectoryWriter(Path(sys.argv[1]), "Pong", ["NOOP"], [40]) as writer:
    for chunk in (1, 0, 2):
        writer.write_chunk(chunk, pack(whole[16 * chunk : 16 * chunk + 16]))
assert np.array_equal(Trajectories(Path(sys.argv[1])).frames(0, 40), frames)
print(COMPRESSION["compression"])
"""

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
    assert found.frame_shape == (84, 84)
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


@pytest.mark.parametrize(("filter_name", "printed"), [("zstd", "32015"), ("gzip", "gzip")])
def test_hdf5_reads_the_chunks_that_were_packed_outside(tmp_path, filter_name, printed) -> None:
    command = [sys.executable, "-c", ROUND, str(tmp_path / "t.h5"), filter_name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, printed), done.stderr


def test_what_was_packed_comes_back() -> None:
    frames = np.random.default_rng(1).integers(0, 255, (16, 84, 84), dtype=np.uint8)
    np.testing.assert_array_equal(unpack(pack(frames), (84, 84)), frames)


def test_rgb_frames_of_any_size_come_back_packed_or_written(tmp_path) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (40, 16, 12, 3), dtype=np.uint8)
    whole = np.concatenate([frames, np.zeros((8, 16, 12, 3), np.uint8)])
    for name in ("packed", "written"):
        with TrajectoryWriter(tmp_path / name, "Pong", ["NOOP"], [30, 10], (16, 12, 3)) as writer:
            if name == "written":
                writer.write("observations", 0, frames)
            for chunk in (1, 0, 2) if name == "packed" else ():
                packed = pack(whole[16 * chunk : 16 * chunk + 16])
                np.testing.assert_array_equal(unpack(packed, (16, 12, 3)), whole[16 * chunk : 16 * chunk + 16])
                writer.write_chunk(chunk, packed)
        found = Trajectories(tmp_path / name)
        assert (found.frame_shape, len(found)) == ((16, 12, 3), 40)
        np.testing.assert_array_equal(found.frames(7, 33), frames[7:33])


def test_only_grey_and_rgb_frames_are_frames(tmp_path) -> None:
    assert frame_shape_of((9, 4, 5)) == (4, 5) and frame_shape_of((9, 4, 5, 3)) == (4, 5, 3)
    for shape in ((9,), (9, 4), (9, 4, 5, 1), (9, 0, 5), (9, 4, 5, 3, 1)):
        with pytest.raises(ValueError, match="grey or"):
            frame_shape_of(shape)
    with pytest.raises(ValueError, match="grey or"):
        TrajectoryWriter(tmp_path / "t.h5", "Pong", ["NOOP"], [4], (84, 84, 4))
