"""From real video files to frames with a list; what is no video, or opens other files, is left out by name."""

import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.cli import run as command
from pipelines.episodes.videos.frame_folders import FrameFolders, read_list
from pipelines.episodes.videos.prepare import Prepared, prepare, videos_below
from pipelines.errors import MayPass, UsageError, WorldlineError
from tests import fakes
from tests.pipelines.episodes.videos.made_videos import wandering


def write_video(path: Path, length: int, seed: int = 0, codec: str = "mp4v", side: int = 96) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 12, (side, side))
    assert writer.isOpened(), "opencv's wheels write it"
    for frame in wandering(length, seed, side):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def prepared(source: Path, to: Path, size: int = 64, workers: int = 1) -> Prepared:
    files, bad = videos_below(source, None)
    done = prepare(files, to, size, None, workers, lambda *_, **__: None)
    return Prepared(done.listing, done.videos, done.frames, {**bad, **done.bad})


def test_videos_become_frames_that_look_like_them(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "a.mp4", 30, 1)
    write_video(tmp_path / "in" / "deep" / "b.avi", 26, 2, "MJPG", 64)
    write_video(tmp_path / "in" / "c.MP4", 5, 3, "vp09")
    done = prepared(tmp_path / "in", tmp_path / "out", workers=3)
    assert (done.videos, done.frames, done.bad) == (3, 61, {})
    assert [str(line) for line in read_list(done.listing)] == ["a 30 0", "c 5 0", "deep-b 26 0"]
    videos = FrameFolders(tmp_path / "out")
    _, frames = videos.load(0)
    assert frames.shape == (30, 64, 64, 3)
    _, same = videos.load(2)
    assert np.abs(same.astype(int) - wandering(26, 2)).mean() < 6, "neither upside down nor blue for red"
    assert not list((tmp_path / "out").glob(".*"))


def test_a_second_run_decodes_only_what_is_missing_and_equal_files_make_equal_frames(tmp_path: Path) -> None:
    for seed in range(3):
        write_video(tmp_path / "in" / f"{seed}.mp4", 8, seed)
    prepared(tmp_path / "in", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jpg")}
    kept = (tmp_path / "out" / "1" / "000004.jpg").read_bytes()
    for path in (tmp_path / "out" / "1").iterdir():
        path.unlink()
    (tmp_path / "out" / "1").rename(tmp_path / "out" / ".1.partial")
    assert prepared(tmp_path / "in", tmp_path / "out").frames == 24
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jpg")}
    assert before.keys() == after.keys() and {path.parent.name for path in before if before[path] != after[path]} == {
        "1"
    }
    assert (tmp_path / "out" / "1" / "000004.jpg").read_bytes() == kept


def test_what_is_no_video_or_opens_other_files_is_left_out_by_name(tmp_path: Path) -> None:
    good = write_video(tmp_path / "in" / "good.mp4", 8)
    secret = write_video(tmp_path / "secret.mp4", 8)
    raw = good.read_bytes()
    files = {
        "junk.mp4": np.random.default_rng(0).bytes(5000),
        "empty.webm": b"",
        "cut.mp4": raw[: len(raw) // 2],
        "script.mp4": f"ffconcat version 1.0\nfile {secret}\n".encode(),
        "playlist.ts": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n../secret.mp4\n#EXT-X-ENDLIST\n",
        "strange name.mp4": raw,
        "number%02d.mp4": raw,
    }
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    (tmp_path / "in" / "link.mp4").symlink_to(secret)
    (tmp_path / "in" / "good.avi").write_bytes(raw)
    done = prepared(tmp_path / "in", tmp_path / "out")
    assert [line.name for line in read_list(done.listing)] == ["good"]
    assert {*done.bad} == {
        "junk", "empty", "cut", "script", "playlist", "strange name", "number%02d", "link", "good.mp4",
    }  # fmt: skip
    assert "link out of its folder" in done.bad["link"] and "same name" in done.bad["good.mp4"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good", "videos.txt", "size.txt"}


def test_a_folder_of_other_frames_or_of_no_videos_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "a.mp4", 4)
    prepared(tmp_path / "in", tmp_path / "out", 32)
    with pytest.raises(UsageError, match="holds frames of size 32, not 64: give another folder, or --size 32"):
        prepared(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="is no folder"):
        videos_below(tmp_path / "absent", None)
    with pytest.raises(UsageError, match="0 of them can be read and are labelled"):
        videos_below(tmp_path / "in", {"b": 1})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mp4").write_bytes(b"x")
    with pytest.raises(WorldlineError, match=r"None of 1 videos can be decoded, of .*a\.mp4: it cannot be decoded"):
        prepared(tmp_path / "bad", tmp_path / "other")


def test_a_full_disk_is_said_and_leaves_no_half_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "in" / "a.mp4", 4)
    written = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "000003.jpg":
            raise OSError(28, "No space left on device")
        return written(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MayPass, match="No space left"):
        prepared(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / "a").exists() and not (tmp_path / "out" / "videos.txt").exists()


PROGRAM = """
import sys
from pathlib import Path
from pipelines.episodes.videos.prepare import prepare, videos_below
files, _ = videos_below(Path(sys.argv[1]), None)
prepare(files, Path(sys.argv[2]), 64, None, 1, lambda *_, **__: None)
"""


def test_a_killed_run_goes_on_and_every_folder_is_whole(tmp_path: Path) -> None:
    for seed in range(6):
        write_video(tmp_path / "in" / f"{seed}.mp4", 150, seed)
    program = fakes.start(PROGRAM, tmp_path / "in", tmp_path / "out")
    fakes.wait_for(lambda: (tmp_path / "out" / "0").is_dir())
    program.send_signal(signal.SIGKILL)
    fakes.finish(program)
    whole = [path for path in (tmp_path / "out").iterdir() if path.is_dir() and not path.name.startswith(".")]
    assert all(len(list(path.iterdir())) == 150 for path in whole)
    done = prepared(tmp_path / "in", tmp_path / "out")
    assert (done.videos, done.frames) == (6, 900)


def test_the_command_goes_from_video_files_to_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    for seed in range(3):
        write_video(tmp_path / "in" / f"v{seed}.mp4", 26, seed)
    (tmp_path / "labels.txt").write_text("v0 93\nv2 94\n")
    asked = ["videos", "prepare", "--from", str(tmp_path / "in"), "--to", str(tmp_path / "out")]
    assert command([*asked, "--labels", str(tmp_path / "labels.txt")]) == 0
    assert "videos.txt names 2 videos of 52 frames\n" in capsys.readouterr().out
    assert (tmp_path / "out" / "videos.txt").read_text() == "v0 26 93\nv2 26 94\n"
    assert command(["videos", "import", str(tmp_path / "out"), "--classes", "93"]) == 0
    assert "--set videos.source=frames" in (said := capsys.readouterr().out) and "--set videos.classes=93" in said
    (tmp_path / "labels.txt").write_text("v0\n")
    assert command([*asked, "--labels", str(tmp_path / "labels.txt")]) == 1
    assert "line 1 is 'v0': write 'video class'" in capsys.readouterr().err
