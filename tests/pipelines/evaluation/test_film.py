"""Films: which episodes, and that a reader sees the frames that were played."""

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.environments.rollout import Episode
from pipelines.errors import WorldlineError
from pipelines.evaluation import film


def episodes(*returns: float) -> list[Episode]:
    return [Episode(number, number, score, 0.0, 1, "terminated") for number, score in enumerate(returns)]


def test_best_worst_and_median_each_once() -> None:
    found = film.chosen(episodes(3.0, -1.0, 9.0, 4.0, 5.0))
    assert {name: episode.score for name, episode in found.items()} == {"best": 9.0, "worst": -1.0, "median": 4.0}
    assert list(film.chosen(episodes(1.0, 2.0))) == ["best", "worst"]
    assert list(film.chosen(episodes(1.0))) == ["best"]
    assert len(film.chosen(episodes(2.0, 2.0, 2.0))) == 3


def frames(count: int) -> list[np.ndarray]:
    """A bright square that wanders to the right."""
    found = np.zeros((count, 84, 84), np.uint8)
    for step in range(count):
        found[step, 30:50, step : step + 20] = 200
    return list(found)


def test_a_film_shows_what_was_played(tmp_path: Path) -> None:
    path = film.write(frames(40), tmp_path / "best.mp4")
    assert path == tmp_path / "best.mp4"
    reader = cv2.VideoCapture(str(path))
    assert reader.get(cv2.CAP_PROP_FPS) == film.STEPS_PER_SECOND
    for wanted in frames(40):
        good, seen = reader.read()
        assert good and seen.shape == (168, 168, 3)
        small = cv2.resize(seen[..., 0], (84, 84), interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - wanted).mean() < 6
    assert not reader.read()[0]


def test_a_long_film_is_cut_but_played_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "LONGEST", 10)
    seen: list[int] = []
    path = film.write((seen.append(step) or frame for step, frame in enumerate(frames(30))), tmp_path / "best.mp4")
    assert len(seen) == 30
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 10


def test_without_an_encoder_the_film_is_an_animation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "CODEC", "avc1")  # which opencv's wheels can read, but not write
    path = film.write(iter(frames(12)), tmp_path / "best.mp4")
    assert [each.name for each in tmp_path.iterdir()] == ["best.webp"] == [path.name]
    with Image.open(path) as animation:
        assert (animation.size, animation.n_frames) == ((168, 168), 12)


# ---- H.264 ----


@pytest.mark.skipif(not film.ffmpeg(), reason="no ffmpeg with H.264 here: the extra film brings one")
def test_a_film_in_h264_shows_what_was_played(tmp_path: Path) -> None:
    path = film.write(iter(frames(40)), tmp_path / "film.mp4", 2, film.ffmpeg())
    reader = cv2.VideoCapture(str(path))
    assert int(reader.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in (b"avc1", b"h264")
    assert reader.get(cv2.CAP_PROP_FPS) == film.STEPS_PER_SECOND
    for wanted in frames(40):
        good, seen = reader.read()
        small = cv2.resize(seen[..., 0], (84, 84), interpolation=cv2.INTER_AREA)
        assert good and np.abs(small.astype(int) - wanted).mean() < 6
    assert path.read_bytes().find(b"moov") < path.read_bytes().find(b"mdat"), "a player need not read to the end"


def program(folder: Path, text: str) -> str:
    path = folder / "ffmpeg"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_encoder_that_fails_is_one_line_and_leaves_no_film(tmp_path: Path) -> None:
    broken = program(
        tmp_path, "import sys; print('no room left', 'second line', sep=chr(10), file=sys.stderr); sys.exit(3)"
    )
    with pytest.raises(WorldlineError, match=r"could not write a film .no room left second line.: free disk"):
        film.write(iter(frames(40)), tmp_path / "film.mp4", 2, broken)
    assert not (tmp_path / "film.mp4").exists()


def test_an_interrupted_film_is_taken_away(tmp_path: Path) -> None:
    waits = program(tmp_path, "import sys; open(sys.argv[-1], 'wb').write(b'half'); sys.stdin.buffer.read()")

    def stopped() -> Iterator[np.ndarray]:
        yield from frames(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film.write(stopped(), tmp_path / "film.mp4", 2, waits)
    assert not (tmp_path / "film.mp4").exists()


@pytest.mark.parametrize(("text", "found"), [("print(' V..... libx264  ')", True), ("print('libvpx')", False)])
def test_an_ffmpeg_counts_only_with_h264(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, found: bool
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    path = program(tmp_path, text)
    film.ffmpeg.cache_clear()
    try:
        assert film.ffmpeg() == (path if found else "")
        film.ffmpeg.cache_clear()
        monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
        assert film.ffmpeg() == ""
    finally:
        film.ffmpeg.cache_clear()
