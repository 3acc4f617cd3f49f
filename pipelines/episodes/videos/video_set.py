"""Videos: frames without actions, read from any source, and the one file that they are written into.

A `VideoSet` is one source's view of its videos. `write_videos` packs those of them that are kept into `videos.h5`, in
the layout of trajectories.py, so that `Trajectories` reads it: every video is an episode whose last step is truncated;
actions, rewards and terminals are zeros. Several videos are read at a time; the file is the same for any number.
Letters: V videos, L frames of a video, H and W pixels.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.episodes.trajectories import CHUNK, OF_VIDEOS, Trajectories, TrajectoryWriter, pack
from pipelines.errors import WorldlineError
from pipelines.store.stage_config import canonical_json

VIDEOS, FACTS = "videos.h5", "videos.json"
FRAME = (64, 64, 3)
MOST_VIDEOS = 1 << 20
MOST_FRAMES = 20_000  # of one video, which lies in memory while it is read: 246 MB
BLANK = 8  # levels between the darkest and the brightest value, of 255: below, a frame shows nothing
FROZEN = 0.02  # levels that a value changes by from frame to frame, in the mean of a video: below, nothing moves


class VideoSet(Protocol):
    """The videos of one source, in their order. May be asked from several threads."""

    where: str  # how messages name it
    names: tuple[str, ...]  # V, each once
    lengths: tuple[int, ...]  # V: frames
    facts: dict[str, Any]  # what the manifest is to say of the source

    def digest(self, video: int) -> str:
        """Hex sha256 of what the video is read from."""

    def load(self, video: int) -> tuple[str, NDArray[np.uint8]]:
        """The same, and its frames (L, 64, 64, 3); both of the same bytes. Raises WorldlineError for damage."""

    def about(self, video: int) -> dict[str, Any]:
        """What is known of it besides name, length and digest."""


def content_of(digests: Sequence[tuple[str, str]]) -> str:
    """The sha256 that stands for a set: of the names and digests of all its videos, wherever they lie."""
    return hashlib.sha256(canonical_json([list(each) for each in digests]).encode()).hexdigest()


@dataclass(frozen=True)
class Seen:
    """What one video turned out to be. motion: mean change of a value from frame to frame, in levels of 255."""

    digest: str  # of its source
    sha256: str  # of its frames
    motion: float
    blank: int  # frames that show nothing

    @classmethod
    def of(cls, digest: str, frames: NDArray[np.uint8]) -> "Seen":
        """frames: (L, H, W, 3), C-contiguous."""
        flat = frames.reshape(len(frames), -1)
        spread = flat.max(1).astype(np.int16) - flat.min(1)
        changed = cv2.norm(frames[1:].reshape(-1), frames[:-1].reshape(-1), cv2.NORM_L1) if len(frames) > 1 else 0.0
        motion = changed / max(frames[1:].size, 1)
        return cls(digest, hashlib.sha256(frames.data).hexdigest(), motion, int((spread < BLANK).sum()))


def read_ahead(videos: VideoSet, chosen: Sequence[int], workers: int) -> Iterator[tuple[int, str, NDArray[np.uint8]]]:
    """Each chosen video's number, digest and frames, in their order; `workers` are read at a time."""
    waiting: deque[tuple[int, Future[tuple[str, NDArray[np.uint8]]]]] = deque()
    with ThreadPoolExecutor(workers, "videos") as pool:
        try:
            for video in chosen:
                waiting.append((video, pool.submit(videos.load, video)))
                if len(waiting) > workers:
                    first, future = waiting.popleft()
                    yield (first, *future.result())
            while waiting:
                first, future = waiting.popleft()
                yield (first, *future.result())
        finally:
            for _, future in waiting:
                future.cancel()


def write_videos(
    videos: VideoSet, kept: Sequence[int], path: Path, workers: int, advance: Callable[[int], object]
) -> tuple[list[Seen], str]:
    """Write these videos into `path`; what each is, and the digest of all frames. `advance` is told of frames.

    Raises WorldlineError for a damaged video, for one of another length than stated, and where none is kept.
    """
    lengths, seen = [videos.lengths[video] for video in kept], []
    chunk = min(CHUNK, sum(lengths))
    with TrajectoryWriter(path, OF_VIDEOS, (), lengths, FRAME) as writer:
        rest, number = np.zeros((0, *FRAME), np.uint8), 0
        for video, digest, frames in read_ahead(videos, kept, workers):
            if frames.shape != (videos.lengths[video], *FRAME):
                raise WorldlineError(
                    f"{videos.where}: {videos.names[video]} has frames {frames.shape}, {videos.lengths[video]} of "
                    f"{FRAME} were stated: the files changed while they were read, run the command again"
                )
            seen.append(Seen.of(digest, frames))
            joined = np.concatenate([rest, frames]) if len(rest) else frames
            whole = len(joined) // chunk * chunk
            for first in range(0, whole, chunk):
                writer.write_chunk(number, pack(joined[first : first + chunk]))
                number += 1
            rest = joined[whole:].copy()
            advance(len(frames))
        if len(rest):
            last = np.zeros((chunk, *FRAME), np.uint8)
            last[: len(rest)] = rest
            writer.write_chunk(number, pack(last))
        _write_ends(writer, lengths)
        return seen, writer.frames_sha256()


def _write_ends(writer: TrajectoryWriter, lengths: Sequence[int]) -> None:
    """Every video ends with a truncation; a row's source is its video, counted from 0, and the frame in it."""
    ends = np.cumsum(lengths)
    rows = np.zeros((ends[-1], 3), np.int32)
    rows[:, 1] = np.repeat(np.arange(len(lengths)), lengths)
    rows[:, 2] = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    truncations = np.zeros(ends[-1], np.uint8)
    truncations[ends - 1] = 1
    writer.write("truncations", 0, truncations)
    writer.write("source_rows", 0, rows)


def read_back(path: Path, seen: Sequence[Seen], advance: Callable[[int], object]) -> None:
    """Read every frame of the file again. Raises WorldlineError where one is not what was written."""
    written = Trajectories(path)
    for video, each in enumerate(seen):
        start, stop = written.episode_starts[video : video + 2].tolist()
        if hashlib.sha256(written.frames(start, stop).data).hexdigest() != each.sha256:
            raise WorldlineError(f"{path} reads back differently: check the disk and run the same command again")
        advance(stop - start)
    written.close()
