"""Archives as RLBench's are published, and those that nobody should publish: refused in a line, unpickled none."""

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.episodes.videos.npz_videos import NpzVideos
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.files import sha256_of
from tests.pipelines.episodes.videos.made_videos import wandering, write_npz


class Evil:
    """Would leave a trace if anything unpickled it."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('unpickled')",)


def test_archives_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    files = [write_npz(tmp_path, length, seed) for seed, length in enumerate((30, 5, 64))]
    (tmp_path / "notes.txt").write_text("not a video")
    videos = NpzVideos(tmp_path)
    assert videos.names == tuple(file.stem for file in sorted(files)) and videos.lengths == (30, 5, 64)
    for number, file in enumerate(sorted(files)):
        digest, frames = videos.load(number)
        assert digest == videos.digest(number) == sha256_of(file)
        assert np.array_equal(frames, wandering(videos.lengths[number], number))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"image": None}, "there is no image in it, but action"),
        ({"image": np.zeros((9, 84, 84, 3), np.uint8)}, r"image is \(9, 84, 84, 3\) uint8, only .* resize its frames"),
        ({"image": np.zeros((9, 64, 64, 3), np.float32)}, "float32, only .*: make bytes of its numbers"),
        ({"image": np.zeros((0, 64, 64, 3), np.uint8)}, "has 0 frames"),
        ({"reward": np.zeros(8)}, r"reward is \(8,\) beside 9 frames"),
        ({"is_first": np.arange(9) % 4 == 0}, "an episode begins at frame 8, one archive is one episode"),
        ({"is_first": np.zeros(9, "U99")}, "of truth values is meant"),
        ({"action": np.array([Evil()] * 9)}, "holds objects, and nothing is unpickled: write it as plain numbers"),
        ({"image": np.asfortranarray(np.ones((9, 64, 64, 3), np.uint8))}, "Fortran"),
    ],
)
def test_what_is_no_video_is_refused_by_name_before_it_is_read(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    path = write_npz(tmp_path, 9, name="odd.npz", **changes)
    with pytest.raises(WorldlineError, match=f"{re.escape(str(path))} cannot be read as a video.*{why}"):
        NpzVideos(tmp_path)


def test_a_name_that_states_another_length_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path, 9, name="a-499.npz")
    with pytest.raises(WorldlineError, match=r"has 9 frames and its name says 499 steps.*copy it again"):
        NpzVideos(tmp_path)


def test_a_truncated_archive_and_a_flipped_byte_are_named(tmp_path: Path) -> None:
    path = write_npz(tmp_path, 30, name="a.npz")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(WorldlineError, match=r"a\.npz cannot be read as a video .* write or copy it again"):
        NpzVideos(tmp_path)
    at = raw.index(b"image.npy") + 2000
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :])
    with pytest.raises(WorldlineError, match=r"a\.npz cannot be read as a video"):
        NpzVideos(tmp_path).load(0)


def bomb(path: Path, shape: tuple[int, ...], inside: int) -> None:
    """An archive whose header states `shape` and whose member inflates to `inside` zeros."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(inside))


def test_archives_that_inflate_to_more_than_a_video_are_refused_unread(tmp_path: Path) -> None:
    bomb(tmp_path / "a.npz", (25, 64, 64, 3), 50_000_000)
    with pytest.raises(WorldlineError, match=r"states \(25, 64, 64, 3\) uint8 and has 50,000,000 bytes"):
        NpzVideos(tmp_path)
    bomb(tmp_path / "a.npz", (10**6, 64, 64, 3), 1)
    with pytest.raises(WorldlineError, match="and has 1 bytes"):
        NpzVideos(tmp_path)
    # A directory that lies about the size: what is taken is what the header states, and the rest is never inflated.
    bomb(tmp_path / "a.npz", (25, 64, 64, 3), 50_000_000)
    raw, stated = (tmp_path / "a.npz").read_bytes(), 25 * 64 * 64 * 3 + 128
    sizes = struct.pack("<I", 50_000_128), struct.pack("<I", stated)
    (tmp_path / "a.npz").write_bytes(raw.replace(*sizes))
    with pytest.raises(WorldlineError, match="cannot be read as a video"):
        NpzVideos(tmp_path).load(0)


def test_a_folder_of_nothing_and_a_link_out_of_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds 0 \.npz files"):
        NpzVideos(tmp_path)
    with pytest.raises(UsageError, match="absent cannot be read"):
        NpzVideos(tmp_path / "absent")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.npz").symlink_to(write_npz(tmp_path / "out", 9, name="a.npz"))
    with pytest.raises(UsageError, match="is a link out of its folder"):
        NpzVideos(tmp_path / "in")


@settings(max_examples=60)
@given(at=st.integers(0, 10**9), value=st.integers(0, 255), cut=st.integers(0, 10**9) | st.none())
def test_no_byte_of_an_archive_makes_another_error_than_ours(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, cut: int | None
) -> None:
    folder = tmp_path_factory.mktemp("npz")
    path = write_npz(folder, 3, name="a.npz")
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] = value
    path.write_bytes(raw[: cut % len(raw)] if cut is not None else raw)
    try:
        videos = NpzVideos(folder)
        _, frames = videos.load(0)
        assert frames.shape == (videos.lengths[0], 64, 64, 3)
    except WorldlineError as error:
        assert "\n" not in str(error) and "a.npz" in str(error)
