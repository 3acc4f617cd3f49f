"""The trajectory file: slots filled in any order come back, packed or not; processes do not share a handle."""

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.batches.shard_cache import ShardCache
from pipelines.batches.shards import ShardSet
from pipelines.batches.webdataset_reader import ShardSource, WebdatasetStream
from pipelines.episodes.jowa_h5 import JowaTrajectories
from pipelines.episodes.trajectories import (
    FILE_NAME,
    BestEpisodes,
    Trajectories,
    TrajectoryWriter,
    best_episodes,
    frame_shape_of,
    narrowed,
    pack,
    unpack,
)
from pipelines.episodes.zarr_trajectories import ZarrTrajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.store import Store
from pipelines.tools.exports.export import export
from pipelines.tools.exports.jowa_h5 import JowaH5
from pipelines.tools.exports.webdataset import Webdataset
from pipelines.tools.exports.zarr_store import ZarrStore
from tests.pipelines.episodes.made_episodes import put_episodes, write_episodes

FORMS = ("jowa", "jowa gzip", "zarr")
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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with Freeway in every layout; tests only read it."""
    folder = tmp_path_factory.mktemp("readers")
    artefact = put_episodes(Store(folder / "store"))
    source = Trajectories(artefact.path(FILE_NAME))
    export(artefact, JowaH5(source), folder / "plain")
    export(artefact, JowaH5(source, compress=True), folder / "packed")
    export(artefact, ZarrStore(source), folder)
    return folder, source


def opened(folder: Path, form: str):
    if form == "zarr":
        return ZarrTrajectories(folder / "Freeway.zarr")
    return JowaTrajectories(folder / ("plain" if form == "jowa" else "packed") / "Freeway.h5")


def loader(trajectories) -> SegmentLoader:
    cut = Segmentation(trajectories.episode_starts, 8, 4, "left")
    return SegmentLoader([SegmentSource(trajectories, cut)], batch_size=6, seed=3)


def assert_same(left, right) -> None:
    for name, value in vars(left).items():
        np.testing.assert_array_equal(value, getattr(right, name), err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_the_loader_gives_equal_batches(made, form) -> None:
    folder, source = made
    ours, theirs = loader(source), loader(opened(folder, form))
    for step in range(12):
        assert_same(ours.batch(step), theirs.batch(step))


@pytest.mark.parametrize("form", FORMS)
def test_every_array_and_any_slice_are_the_sources(made, form) -> None:
    folder, source = made
    found = opened(folder, form)
    assert (len(found), found.num_episodes, found.game) == (68, 4, "Freeway")
    for name in ("actions", "rewards", "terminals", "truncations", "episode_starts"):
        mine, theirs = getattr(source, name), getattr(found, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    for start, stop in ((0, 68), (3, 9), (44, 47), (45, 46), (67, 68), (5, 5)):
        np.testing.assert_array_equal(found.frames(start, stop), source.frames(start, stop))
    found.close()
    np.testing.assert_array_equal(found.frames(1, 3), source.frames(1, 3))


def _child(found, queue) -> None:
    queue.put(found.frames(10, 12))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_child_processes_open_their_own(made, form, start) -> None:
    folder, source = made
    found = opened(folder, form)
    found.frames(0, 3)
    context = multiprocessing.get_context(start)
    queue = context.Queue()
    child = context.Process(target=_child, args=(found, queue))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), source.frames(10, 12))
    child.join(timeout=30)
    assert child.exitcode == 0
    copy = pickle.loads(pickle.dumps(found))  # noqa: S301  # our own bytes, as data loader workers exchange them
    np.testing.assert_array_equal(copy.frames(0, 3), source.frames(0, 3))


def test_values_are_never_bent_to_fit() -> None:
    assert narrowed(np.array([0, 255]), "x", np.uint8, "f").tolist() == [0, 255]
    for bad in ([256], [-1], [0.5], [np.nan], ["a"]):
        with pytest.raises(WorldlineError, match="do not fit uint8"):
            narrowed(np.array(bad), "x", np.uint8, "f")


def test_rgb_frames_are_exported_and_read_as_they_are(tmp_path) -> None:
    artefact = put_episodes(Store(tmp_path / "store"), frame=(14, 21, 3))
    source = Trajectories(artefact.path(FILE_NAME))
    found = ZarrTrajectories(export(artefact, ZarrStore(source), tmp_path).path)
    assert found.frame_shape == source.frame_shape == (14, 21, 3)
    np.testing.assert_array_equal(found.frames(3, 50), source.frames(3, 50))
    assert_same(loader(source).batch(1), loader(found).batch(1))
    cut = Webdataset(source, Segmentation(source.episode_starts, 8, 4, "right"))
    shards = ShardSet(export(artefact, cut, tmp_path).path)
    kept = ShardSource(shards, shards.contents.episodes, ShardCache(tmp_path / "cache", 1 << 20))
    stream = WebdatasetStream([kept], batch_size=4, seed=0)
    assert stream.batch(0).frames_BTHW.shape == (4, 8, 14, 21, 3)
    with pytest.raises(UsageError, match=r"\(14, 21, 3\), the layout jowa-h5 holds \(84, 84\) alone: "):
        JowaH5(source)


@pytest.fixture
def data(tmp_path: Path) -> Trajectories:
    return write_episodes(tmp_path / FILE_NAME, lengths=(5, 40, 3, 22))


def test_the_best_are_those_of_the_highest_return(data: Trajectories) -> None:
    starts = data.episode_starts
    data.rewards = np.zeros(len(data), np.float32)
    for episode in range(data.num_episodes):
        data.rewards[starts[episode] : starts[episode] + episode % 3] = 1
    returns = [episode % 3 for episode in range(data.num_episodes)]
    for count in range(1, data.num_episodes + 1):
        chosen = best_episodes(data, count, among=data.num_episodes)
        assert chosen == sorted(sorted(range(data.num_episodes), key=lambda e: (-returns[e], e))[:count])
    assert best_episodes(data, 1, among=2) == [1]
    with pytest.raises(UsageError, match=r"3 expert episodes of Freeway are wanted, .* hold 2 to learn from"):
        best_episodes(data, 3, among=2)


def test_chosen_episodes_read_as_one_file(data: Trajectories) -> None:
    starts, chosen = data.episode_starts, [0, 2]
    best = BestEpisodes(data, chosen)
    rows = np.concatenate([np.arange(starts[episode], starts[episode + 1]) for episode in chosen])
    assert len(best) == len(rows) == best.episode_starts[-1] and best.num_episodes == 2
    for name in ("actions", "rewards", "terminals", "truncations"):
        np.testing.assert_array_equal(getattr(best, name), getattr(data, name)[rows])
    everything = data.frames(0, len(data))
    np.testing.assert_array_equal(best.frames(0, len(best)), everything[rows])
    border = int(best.episode_starts[1])
    np.testing.assert_array_equal(best.frames(border - 2, border + 3), everything[rows[border - 2 : border + 3]])


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
