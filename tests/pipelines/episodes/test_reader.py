"""Readers of other layouts: the same batches as from our own file, bit for bit, near, far and in child processes."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.episodes.jowa_h5 import JowaTrajectories
from pipelines.episodes.reader import narrowed
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.episodes.zarr_trajectories import ZarrTrajectories
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from pipelines.tools.exports.export import export
from pipelines.tools.exports.jowa_h5 import JowaH5
from pipelines.tools.exports.zarr_store import ZarrStore
from tests.pipelines.episodes.made_episodes import put_episodes

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
