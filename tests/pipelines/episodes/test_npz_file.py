"""Archives of strangers, read as what they state and no more."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipelines.episodes.npz_file import MOST_MEMBERS, ROWS, Forward, NpzFile
from pipelines.errors import BAD_NPZ


def test_arrays_are_read_whole_and_in_slices_in_any_order(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (ROWS + 9, 4, 4), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", image=frames, small=np.arange(3), other=np.array([None]))
    archive = NpzFile(tmp_path / "a.npz", ("image", "small"), "image")
    assert archive.stated == {"image": ((ROWS + 9, 4, 4), np.uint8), "small": ((3,), np.int64)}
    assert {*archive.members} == {"image", "small", "other"} and archive.whole("small").tolist() == [0, 1, 2]
    for start, stop in ((0, 5), (60, 70), (3, ROWS + 9), (7, 7)):
        assert np.array_equal(archive.rows(start, stop), frames[start:stop])
    with pytest.raises(StopIteration):
        archive.rows(0, ROWS + 10)
    archive.close()


def test_objects_are_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.array([{"a": 1}]))
    with pytest.raises(ValueError, match="objects"):
        NpzFile(tmp_path / "a.npz", ("image",), "image")


def test_an_archive_of_very_many_members_and_of_none_of_ours_is_told() -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for number in range(MOST_MEMBERS + 1):
            archive.writestr(str(number), b"")
    with pytest.raises(ValueError, match="members, at most"):
        NpzFile(raw, ("image",), "image")
    with pytest.raises(BAD_NPZ):
        NpzFile(io.BytesIO(b"PK\x03\x04"), ("image",), "image")


def test_going_back_begins_anew() -> None:
    begun: list[int] = []

    def blocks():  # type: ignore[no-untyped-def]
        begun.append(1)
        yield from np.arange(12, dtype=np.uint8).reshape(3, 4)

    rows = Forward(blocks)
    assert [rows.read(*each).tolist() for each in ((2, 6), (5, 9), (0, 2))] == [[2, 3, 4, 5], [5, 6, 7, 8], [0, 1]]
    assert len(begun) == 2 and rows.read(4, 4).tolist() == []
