"""How fast videos come in, from each source: `python -m pipelines.tools.bench.videos`.

A few takes of Meta-world's experts are played; they are then written as archives, as frames and as video files, many
times over and each a little other, and taken in again. One process and one thread; CPU seconds are what to compare on a
shared machine.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.episodes.videos.frame_folders import LIST, FrameFolders, Line, write_list
from pipelines.episodes.videos.npz_videos import NpzVideos
from pipelines.episodes.videos.prepare import prepare
from pipelines.episodes.videos.scripted import Play, Studio, takes_of
from pipelines.episodes.videos.video_set import VIDEOS, VideoSet, read_back, write_videos


@dataclass(frozen=True)
class Sizes:
    """tasks are played once each, up to `limit` frames; `copies` are made of each for the other sources."""

    tasks: tuple[str, ...] = ("door-open", "push", "window-close")
    limit: int = 200
    copies: int = 20


QUICK = Sizes(("push",), limit=6, copies=2)


@dataclass(frozen=True)
class Rate:
    """What was done to so many videos and frames, in how many seconds."""

    what: str
    videos: int
    frames: int
    wall: float
    cpu: float
    note: str = ""

    def __str__(self) -> str:
        rates = f"{self.videos / self.cpu:,.1f} | {self.frames / self.cpu:,.0f} | {self.frames / self.wall:,.0f}"
        return f"| {self.what} | {self.videos} | {self.frames:,} | {rates} | {self.note} |"


def run(sizes: Sizes) -> list[Rate]:
    """Measure all sources."""
    found: list[Rate] = []
    takes = takes_of(sizes.tasks, ("corner",), 1, (0.1, 0.5), 0)
    played: list[NDArray[np.uint8]] = []
    with Studio(Play("metaworld_fast", 10, sizes.limit, 4)) as studio:
        studio.play(takes[0])  # what is loaded and made once
        found.append(_timed("scripted: played", lambda: played.extend(studio.play(take)[0] for take in takes), played))
    videos = [_other(frames, copy) for copy in range(sizes.copies) for frames in played]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, videos)
        files = {path.stem: path for path in (folder / "films").iterdir()}
        found.append(
            _timed(
                "video files: prepared",
                lambda: prepare(files, folder / "frames", 64, None, 1, lambda *_, **__: None),
                videos,
            )
        )
        write_list(folder / "jpegs" / LIST, [Line(f"v{n:04d}", len(each), 0) for n, each in enumerate(videos)])
        sources: dict[str, VideoSet] = {"npz": NpzVideos(folder / "npz"), "frames": FrameFolders(folder / "jpegs")}
        for source, found_set in sources.items():
            found += _taken_in(source, found_set, folder / VIDEOS, videos)
    return found


def lines(rates: list[Rate]) -> list[str]:
    """A Markdown table."""
    head = "| what | videos | frames | videos/s by CPU | frames/s by CPU | frames/s | |"
    return [head, "|---|---|---|---|---|---|---|", *map(str, rates)]


def _taken_in(source: str, videos: VideoSet, path: Path, given: list[NDArray[np.uint8]]) -> list[Rate]:
    everyone = range(len(videos.names))
    seen = []
    rates = [
        _timed(f"{source}: hashed", lambda: [videos.digest(video) for video in everyone], given),
        _timed(
            f"{source}: written", lambda: seen.extend(write_videos(videos, everyone, path, 1, lambda _: None)[0]), given
        ),
    ]
    note = f"{path.stat().st_size / sum(map(len, given)):,.0f} bytes a frame"
    return [*rates, _timed(f"{source}: read back", lambda: read_back(path, seen, lambda _: None), given, note)]


def _timed(what: str, work: Callable[[], object], videos: list[NDArray[np.uint8]], note: str = "") -> Rate:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Rate(what, len(videos), sum(map(len, videos)), wall, cpu, note)


def _other(frames: NDArray[np.uint8], copy: int) -> NDArray[np.uint8]:
    """The video in other brightness, so that no two are equal."""
    return np.clip(frames.astype(np.int16) + copy, 0, 255).astype(np.uint8)


def _write(folder: Path, videos: list[NDArray[np.uint8]]) -> None:
    for name in ("npz", "jpegs", "films"):
        (folder / name).mkdir()
    for number, frames in enumerate(videos):
        name, firsts = f"v{number:04d}", np.arange(len(frames)) == 0
        np.savez_compressed(folder / "npz" / f"{name}.npz", image=frames, is_first=firsts)
        (folder / "jpegs" / name).mkdir()
        film = cv2.VideoWriter(str(folder / "films" / f"{name}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 12, (320, 240))
        for place, frame in enumerate(frames, 1):
            Image.fromarray(frame).save(folder / "jpegs" / name / f"{place:06d}.jpg", quality=95)
            film.write(np.asarray(cv2.resize(frame[..., ::-1], (320, 240)), np.uint8))
        film.release()


if __name__ == "__main__":
    print("\n".join(lines(run(Sizes()))))
