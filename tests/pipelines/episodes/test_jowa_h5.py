"""JOWA's layout from its own scripts, and damaged or forged: one line each, and no other file is ever read.

A disk that refuses bytes at any point of an HDF5 file: an OSError, never a crash of the process.
"""

import errno
import multiprocessing
import os
import resource
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.episodes.jowa_h5 import JowaTrajectories, new_file
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from pipelines.tools.exports.export import export
from pipelines.tools.exports.jowa_h5 import JowaH5
from tests.pipelines.episodes.made_episodes import put_episodes


@pytest.fixture(scope="module")
def freeway(tmp_path_factory) -> Path:
    """An export; tests copy it."""
    folder = tmp_path_factory.mktemp("jowa")
    artefact = put_episodes(Store(folder / "store"))
    return export(artefact, JowaH5(Trajectories(artefact.path(FILE_NAME))), folder).path


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
    source = SegmentSource(found, Segmentation(found.episode_starts, 8, 4, "left"))
    assert SegmentLoader([source], batch_size=6, seed=0).batch(0).actions_BT.shape == (6, 8)


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
def test_bad_files_in_jowas_layout_are_one_line(freeway, case, tmp_path) -> None:
    shutil.copy(freeway, tmp_path)
    change, words = BAD_H5[case]
    change(tmp_path)
    with pytest.raises(WorldlineError, match=words) as caught:
        JowaTrajectories(next(tmp_path.glob("*.h5")))
    assert "\n" not in str(caught.value)


def fill(file, stop_if_refused=lambda: None, groups: int = 40) -> None:
    for number in range(groups):
        group = file.create_group(str(number))
        group["rows"] = np.arange(50)
        group.create_dataset("frames", data=np.ones((20, 84, 84), np.uint8), chunks=(16, 84, 84), compression="gzip")
        stop_if_refused()


def test_what_was_written_is_there(tmp_path) -> None:
    for name in ("a.h5", "b.h5"):
        with new_file(tmp_path / name) as (file, stop_if_refused):
            fill(file, stop_if_refused)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file) == 40
        for group in file.values():
            assert group["rows"][:].tolist() == list(range(50)) and group["frames"][:].all()


def _child(path, limit: int, patient: bool, queue) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        with new_file(path) as (file, stop_if_refused):
            fill(file, stop_if_refused if patient else lambda: None)
    except OSError as error:
        queue.put(error.errno)


@pytest.mark.parametrize("patient", [True, False])
@pytest.mark.parametrize("limit", [0, 700, 3000, 20_000, 50_000])
def test_a_full_disk_is_an_error_and_no_crash(tmp_path, limit, patient) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(tmp_path / "a.h5", limit, patient, queue))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    assert queue.get(timeout=10) == errno.EFBIG


def test_an_error_of_the_body_comes_through(tmp_path) -> None:
    with pytest.raises(KeyError), new_file(tmp_path / "a.h5") as (file, _):
        file["nothing"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_now_is_not_called_bad(tmp_path, monkeypatch, number) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("h5py.File", refuse)
    with pytest.raises(WorldlineError, match=f"cannot be read now .*{os.strerror(number)}") as caught:
        JowaTrajectories(tmp_path / "Pong.h5")
    assert "layout" not in str(caught.value)
