"""Videos: frames without actions, read from any source, and the one file that they are written into.

A `VideoSet` is one source's view of its videos. `write_videos` packs those of them that are kept into `videos.h5`, in
the layout of trajectories.py, so that `Trajectories` reads it: every video is an episode whose last step is truncated;
actions, rewards and terminals are zeros. Several videos are read at a time; the file is the same for any number.
Letters: V videos, L frames of a video, H and W pixels.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

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
Given = TypeVar("Given")
Made = TypeVar("Made")


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


def write_videos(
    videos: VideoSet, kept: Sequence[int], path: Path, workers: int, advance: Callable[[int], object]
) -> tuple[list[Seen], str]:
    """Write these videos into `path`; what each is, and the digest of all frames. `advance` is told of frames.

    `workers` videos are read and chunks packed at a time, and no more than a few wait. Raises WorldlineError for a
    damaged video, for one of another length than stated, and where none is kept.
    """
    lengths, seen = [videos.lengths[video] for video in kept], []
    chunk = min(CHUNK, sum(lengths))
    with ThreadPoolExecutor(workers, "videos") as pool, TrajectoryWriter(path, OF_VIDEOS, (), lengths, FRAME) as writer:

        def read(video: int) -> tuple[Seen, NDArray[np.uint8]]:
            digest, frames = videos.load(video)
            _require_length(videos, video, frames)
            return Seen.of(digest, frames), frames

        def note(found: tuple[Seen, NDArray[np.uint8]]) -> NDArray[np.uint8]:
            seen.append(found[0])
            advance(len(found[1]))
            return found[1]

        chunks = _chunks(map(note, _in_order(pool, read, kept, workers)), chunk)
        for number, packed in enumerate(_in_order(pool, pack, chunks, 4 * workers)):
            writer.write_chunk(number, packed)
        _write_ends(writer, lengths)
        return seen, writer.frames_sha256()


def _require_length(videos: VideoSet, video: int, frames: NDArray[np.uint8]) -> None:
    if frames.shape != (videos.lengths[video], *FRAME):
        raise WorldlineError(
            f"{videos.where}: {videos.names[video]} has frames {frames.shape}, {videos.lengths[video]} of {FRAME} were "
            "stated: the files changed while they were read, run the command again"
        )


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Given], Made], given: Iterable[Given], ahead: int
) -> Iterator[Made]:
    """What `work` makes of each, in their order; so many are under way before the first is waited for."""
    waiting: deque[Future[Made]] = deque()
    try:
        for each in given:
            waiting.append(pool.submit(work, each))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _chunks(videos: Iterable[NDArray[np.uint8]], chunk: int) -> Iterator[NDArray[np.uint8]]:
    """The frames of all videos, one after the other, in pieces of `chunk`; the last is filled up with zeros."""
    rest = np.zeros((0, *FRAME), np.uint8)
    for frames in videos:
        joined = np.concatenate([rest, frames]) if len(rest) else frames
        whole = len(joined) // chunk * chunk
        for first in range(0, whole, chunk):
            yield joined[first : first + chunk]
        rest = joined[whole:].copy()
    if len(rest):
        yield np.concatenate([rest, np.zeros((chunk - len(rest), *FRAME), np.uint8)])


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
