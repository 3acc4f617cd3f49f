"""Folders of frames with a list, as Something-Something-V2 is prepared: read, and refused by name where they lie."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.episodes.videos.frame_folders import FrameFolders, read_list
from pipelines.errors import UsageError, WorldlineError
from tests.pipelines.episodes.videos.made_videos import wandering, write_frames, write_list


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three videos, of the classes 93, 94 and 7."""
    lines = [write_frames(tmp_path, str(100 + n), 5 + n, n, label) for n, label in enumerate((93, 94, 7))]
    write_list(tmp_path, *lines)
    return tmp_path


def test_videos_stand_in_the_order_of_their_list_and_read_as_they_were_drawn(root: Path) -> None:
    videos = FrameFolders(root)
    assert (videos.names, videos.lengths) == (("100", "101", "102"), (5, 6, 7))
    assert [videos.about(number)["class"] for number in range(3)] == [93, 94, 7]
    for number in range(3):
        digest, frames = videos.load(number)
        assert digest == videos.digest(number) and len(digest) == 64
        assert np.abs(frames.astype(int) - wandering(5 + number, number)).mean() < 3  # a JPEG is not lossless
    assert len({videos.digest(number) for number in range(3)}) == 3


def test_only_the_classes_that_were_asked_for_are_read(root: Path) -> None:
    assert FrameFolders(root, classes=(93, 94)).names == ("100", "101")
    with pytest.raises(UsageError, match=r"has no video of class 5: it has 7, 93, 94"):
        FrameFolders(root, classes=(5, 93))


def test_what_the_list_names_and_is_not_there_is_named_or_left_out(root: Path) -> None:
    (root / "101" / "000006.jpg").unlink()
    write_list(root, "100 5 93", "101 6 94", "103 9 7")
    with pytest.raises(WorldlineError, match=r"2 of 3 videos .* \(101 lacks 000006\.jpg; 103 has no folder\)"):
        FrameFolders(root)
    videos = FrameFolders(root, skip_missing=True)
    assert videos.names == ("100",) and (videos.facts["listed"], videos.facts["missing"]) == (3, 2)
    assert videos.facts["missing_first"] == ["101 lacks 000006.jpg", "103 has no folder"]


def test_a_gap_in_the_middle_is_named_when_it_is_met(root: Path) -> None:
    (root / "100" / "000003.jpg").unlink()
    with pytest.raises(WorldlineError, match=r"100/000003\.jpg cannot be read .* its list says 5 frames"):
        FrameFolders(root).load(0)


def test_frames_of_another_size_are_refused_with_the_repair(root: Path) -> None:
    write_list(root, write_frames(root, "large", 5, side=240))
    with pytest.raises(WorldlineError, match=r"is 240x240 pixels, frames are 64x64: .*worldline videos prepare"):
        FrameFolders(root).load(0)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"GIF89a" + bytes(99)])
def test_a_picture_that_is_none_is_named(root: Path, content: bytes) -> None:
    (root / "100" / "000002.jpg").write_bytes(content)
    with pytest.raises(WorldlineError, match=r"100/000002\.jpg is no sound JPEG"):
        FrameFolders(root).load(0)


def test_a_truncated_picture_and_a_picture_of_another_format_are_named(root: Path) -> None:
    path = root / "100" / "000002.jpg"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(WorldlineError, match="is no sound JPEG"):
        FrameFolders(root).load(0)
    Image.fromarray(wandering(1)[0]).save(path, format="PNG")
    with pytest.raises(WorldlineError, match="is no sound JPEG"):
        FrameFolders(root).load(0)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("../../etc 25 1", r"line 1 is '\.\./\.\./etc 25 1': write"),
        ("/etc/passwd 25 1", "line 1 is"),
        ("a..b 25 1", "line 1 is"),
        (".hidden 25 1", "line 1 is"),
        ("a 25", "line 1 is"),
        ("a -25 1", "line 1 is"),
        ("a 0 1", "states 0 frames"),
        ("a 999999999 1", "states 999999999 frames"),
        ("a 25 1\na 25 1", "names 'a' twice"),
        ("", "names 0 videos"),
    ],
)
def test_a_list_that_leaves_the_root_or_makes_no_sense_is_refused(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(WorldlineError, match=why):
        FrameFolders(tmp_path, write_list(tmp_path, line))


def test_a_link_out_of_the_root_is_refused(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("out") / "secret.jpg"
    Image.fromarray(wandering(1)[0]).save(secret)
    (root / "100" / "000002.jpg").unlink()
    (root / "100" / "000002.jpg").symlink_to(secret)
    with pytest.raises(WorldlineError, match=r"000002\.jpg is a link: copy the file itself there"):
        FrameFolders(root).load(0)
    (root / "101").rename(secret.parent / "101")
    (root / "101").symlink_to(secret.parent / "101")
    with pytest.raises(WorldlineError, match="101 is a link out of"):
        FrameFolders(root).digest(1)


def test_a_file_too_large_for_a_frame_is_not_read_whole(root: Path) -> None:
    with (root / "100" / "000002.jpg").open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(WorldlineError, match=r"000002\.jpg has more than 1,048,576 bytes"):
        FrameFolders(root).load(0)


def test_a_root_or_a_list_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        FrameFolders(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"The list .*videos\.txt cannot be read"):
        FrameFolders(tmp_path)


@given(raw=st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_a_list_or_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("list") / "videos.txt"
    path.write_bytes(raw)
    try:
        assert all(re.fullmatch(r"[\w.=+-]+", line.name) and line.frames >= 1 for line in read_list(path))
    except WorldlineError as error:
        assert "\n" not in str(error)
