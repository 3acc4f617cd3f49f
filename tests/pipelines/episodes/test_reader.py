"""Readers of other layouts give the batches of our own file, bit for bit, near, far and in child processes.

The expert set: the right episodes, read through as if they were a file of their own.
"""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.batches.shards import ShardSet
from pipelines.batches.webdataset_reader import WebdatasetStream
from pipelines.episodes.jowa_h5 import JowaTrajectories
from pipelines.episodes.reader import BestEpisodes, best_episodes, narrowed
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.episodes.zarr_trajectories import ZarrTrajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.store import Store
from pipelines.tools.exports.export import export
from pipelines.tools.exports.jowa_h5 import JowaH5
from pipelines.tools.exports.webdataset import Webdataset
from pipelines.tools.exports.zarr_store import ZarrStore
from tests.pipelines.episodes.made_episodes import put_episodes, write_episodes

FORMS = ("jowa", "jowa gzip", "zarr")


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
    stream = WebdatasetStream([ShardSet(export(artefact, cut, tmp_path).path)], batch_size=4, seed=0)
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
