"""A disk that refuses bytes at any point of an HDF5 file: an OSError, never a crash of the process."""

import errno
import multiprocessing
import resource

import h5py
import numpy as np
import pytest

from pipelines.episodes.jowa_h5 import new_file


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
