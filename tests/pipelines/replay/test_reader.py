"""Readers of other layouts: the same batches as from our own file, bit for bit, near, far and in child processes."""

import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from pipelines.errors import WorldlineError
from pipelines.exports.export import export
from pipelines.exports.jowa_h5 import JowaH5
from pipelines.exports.zarr_store import ZarrStore
from pipelines.replay.jowa_file import JowaTrajectories
from pipelines.replay.loader import SegmentLoader, SegmentSource
from pipelines.replay.reader import narrowed
from pipelines.replay.segments import Segmentation
from pipelines.replay.trajectories import FILE_NAME, Trajectories
from pipelines.replay.zarr_trajectories import ZarrTrajectories
from pipelines.store.store import Store
from tests.pipelines.replay.episodes import put_episodes

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


@pytest.mark.parametrize("kind", ["gcs", "s3"])
def test_zarr_is_read_from_a_bucket(made, kind, request) -> None:
    folder, source = made
    bucket = request.getfixturevalue(f"{kind}_bucket")
    for path in sorted(file for file in (folder / "Freeway.zarr").rglob("*") if file.is_file()):
        bucket.put(f"Freeway.zarr/{path.relative_to(folder / 'Freeway.zarr').as_posix()}", path.read_bytes())
    found = ZarrTrajectories(f"{bucket.root_url}/Freeway.zarr", bucket.profile())
    ours, theirs = loader(source), loader(found)
    assert_same(ours.batch(0), theirs.batch(0))
    with pytest.raises(WorldlineError, match="cannot be read as trajectories"):
        ZarrTrajectories(f"{bucket.root_url}/Pong.zarr", bucket.profile())


def test_files_of_the_originals_scripts_read_as_well(tmp_path) -> None:
    """No attributes, 64-bit actions, a time-out that is a terminal."""
    with h5py.File(tmp_path / "Pong.h5", "w") as file:
        for episode, length in enumerate((3, 12)):
            group = file.create_group(str(episode))
            group["observations"] = np.full((length, 84, 84), episode, np.uint8)
            group["actions"] = np.arange(length) % 6
            group["rewards"] = np.zeros(length)
            group["terminals"] = np.arange(length) == length - 1
    found = JowaTrajectories(tmp_path / "Pong.h5")
    assert found.episode_starts.tolist() == [0, 3, 15] and not found.truncations.any()
    assert found.frames(2, 5)[:, 0, 0].tolist() == [0, 1, 1]
    assert loader(found).batch(0).actions_BT.shape == (6, 8)


# ---- hostile files: one line each ----


def one_line(error) -> bool:
    return "\n" not in str(error.value)


def spoil(change):
    def change_h5(folder: Path) -> None:
        with h5py.File(folder / "Freeway.h5", "a") as file:
            change(file)

    return change_h5


def replaced(file, name, values) -> None:
    del file[name]
    file[name] = values


def endless(file, name="observations") -> None:
    del file[f"1/{name}"]
    row = (84, 84) if name == "observations" else ()
    file.create_dataset(f"1/{name}", (10**12, *row), np.uint8, chunks=(16, *row))


def outside(file) -> None:
    del file["1/actions"]
    file.create_dataset("1/actions", (40,), np.uint8, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


BAD_H5 = {
    "another game": (spoil(lambda file: file.attrs.modify("game", "Pong")), "holds Pong, its name says Freeway"),
    "a gap": (spoil(lambda file: file.pop("2")), "not in JOWA's layout"),
    "no actions": (spoil(lambda file: file.pop("1/actions")), "not in JOWA's layout"),
    "a group for data": (spoil(lambda file: (file.pop("1/actions"), file.create_group("1/actions"))), "not in JOWA's"),
    "short rewards": (spoil(lambda file: replaced(file, "1/rewards", np.zeros(3))), r"\(3,\) rewards for 40"),
    "wide frames": (
        spoil(lambda file: replaced(file, "1/observations", np.zeros((40, 64, 64), np.uint8))),
        "must be .T, 84, 84. uint8",
    ),
    "actions that wrap": (spoil(lambda file: replaced(file, "1/actions", np.full(40, 256))), "do not fit uint8"),
    "no number": (spoil(lambda file: replaced(file, "1/rewards", np.full(40, np.nan))), "do not fit float32|finite"),
    "terminal 2": (spoil(lambda file: replaced(file, "1/terminals", np.full(40, 2))), "only 0 and 1 are meant"),
    "text": (spoil(lambda file: replaced(file, "1/actions", [b"a"] * 40)), "do not fit|not in JOWA's"),
    "an episode without end": (spoil(lambda file: endless(file)), "T at most 1,048,576"),
    "actions without end": (spoil(lambda file: endless(file, "actions")), "1000000000000,. actions for 40"),
    "a link to another file": (
        spoil(lambda file: (file.pop("1"), file.update({"1": h5py.ExternalLink("other.h5", "/")}))),
        "points elsewhere",
    ),
    "a link within": (spoil(lambda file: (file.pop("1"), file.update({"1": h5py.SoftLink("/0")}))), "points elsewhere"),
    "bytes of another file": (spoil(lambda file: outside(file)), "lies in another file"),
    "cut off": (lambda folder: (folder / "Freeway.h5").write_bytes(bytes(3000)), "not in JOWA's layout"),
    "empty": (spoil(lambda file: file.clear()), "holds no episode"),
    "a game of no list": (
        lambda folder: ((folder / "Freeway.h5").rename(folder / "Chess.h5"),),
        "names 'Chess'|its name says Chess",
    ),
}


@pytest.mark.parametrize("case", BAD_H5, ids=str)
def test_bad_files_in_jowas_layout_are_one_line(made, case, tmp_path) -> None:
    shutil.copy(made[0] / "plain" / "Freeway.h5", tmp_path)
    change, words = BAD_H5[case]
    change(tmp_path)
    with pytest.raises(WorldlineError, match=words) as caught:
        JowaTrajectories(next(tmp_path.glob("*.h5")))
    assert one_line(caught)


def attribute(name, value):
    return lambda path: zarr.open_group(path, mode="a").attrs.update({name: value})


def values(name, change):
    def alter(path: Path) -> None:
        array = zarr.open_group(path, mode="a")[name]
        array[...] = change(array[...])

    return alter


def metadata(name, **changes):
    def alter(path: Path) -> None:
        file = path / name / "zarr.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return alter


def flip(path: Path) -> None:
    shard = path / "observations" / "c" / "0" / "0" / "0"
    raw = bytearray(shard.read_bytes())
    raw[-40] ^= 1
    shard.write_bytes(raw)


BAD_ZARR = {
    "another game": (attribute("game", "Pong"), "its actions are not those of Pong"),
    "no such game": (attribute("game", "../../etc"), "none of the 60 games"),
    "a game that is no text": (attribute("game", {"a": 1}), "none of the 60 games"),
    "other actions": (attribute("actions", ["FIRE", "UP", "DOWN"]), "its actions are not those of Freeway"),
    "actions that are no list": (attribute("actions", 3), "cannot be read as trajectories"),
    "chunks of no array": (attribute("chunks", {"nothing": 1}), "cannot be read as trajectories"),
    "a missing shard": (lambda path: shutil.rmtree(path / "observations" / "c"), "has 0 chunks of"),
    "a missing array": (lambda path: shutil.rmtree(path / "actions"), "cannot be read as trajectories"),
    "episodes out of order": (values("episode_starts", lambda starts: starts[::-1]), "do not follow each other"),
    "episodes beyond the end": (values("episode_starts", lambda starts: starts * 2), r"\(68,\) values for 136 rows"),
    "terminal 7": (values("terminals", lambda found: found + 7), "only 0 and 1 are meant"),
    "a reward of no size": (values("rewards", lambda found: found + np.inf), "no finite number"),
    "metadata of another type": (metadata("actions", data_type="int64", fill_value=0), "actions is int64 "),
    "metadata of another size": (metadata("observations", shape=[10**12, 84, 84]), r"it must be uint8 \(68, 84, 84\)"),
    "rows without end": (metadata("actions", shape=[10**12]), "1,000,000,000,000 rows, .* are impossible"),
    "episodes without end": (metadata("episode_starts", shape=[10**12]), "episode starts are impossible"),
    "metadata that is no JSON": (lambda path: (path / "zarr.json").write_text("{"), "cannot be read as trajectories"),
    "nothing there": (shutil.rmtree, "cannot be read as trajectories"),
    "a flipped bit": (flip, "cannot be read as trajectories"),
}


@pytest.mark.parametrize("case", BAD_ZARR, ids=str)
def test_bad_zarr_stores_are_one_line(made, case, tmp_path) -> None:
    path = tmp_path / "Freeway.zarr"
    shutil.copytree(made[0] / "Freeway.zarr", path)
    change, words = BAD_ZARR[case]
    change(path)
    with pytest.raises(WorldlineError, match=words) as caught:
        found = ZarrTrajectories(path)
        found.frames(0, len(found))
    assert one_line(caught)


def test_a_url_of_no_kind_is_one_line() -> None:
    with pytest.raises(WorldlineError, match="no bucket URL") as caught:
        ZarrTrajectories("nothing://here")
    assert one_line(caught)


def test_values_are_never_bent_to_fit() -> None:
    assert narrowed(np.array([0, 255]), "x", np.uint8, "f").tolist() == [0, 255]
    for bad in ([256], [-1], [0.5], [np.nan], ["a"]):
        with pytest.raises(WorldlineError, match="do not fit uint8"):
            narrowed(np.array(bad), "x", np.uint8, "f")
