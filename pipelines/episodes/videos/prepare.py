"""From video files to folders of frames with a list, as frame_folders.py reads them: `worldline videos prepare`.

Every video of a folder, and of folders below it, becomes `<to>/<video>/%06d.jpg`. A folder has its name only when all
its frames are there, so a killed run goes on with the videos that are missing; the list is written last. What cannot
be decoded is named and left out. A file is opened as what its bytes are, of a few plain containers, and opens no other
file: a playlist that calls itself a video is none.
Letters: H and W pixels.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipelines.episodes.videos.frame_folders import LIST, NAME, Line, write_list
from pipelines.episodes.videos.video_set import MOST_FRAMES, MOST_VIDEOS
from pipelines.errors import UsageError, WorldlineError, may_pass, not_now
from pipelines.progress import Advance

ENDINGS = (".webm", ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".mpg", ".mpeg", ".ts", ".3gp")
LARGEST = 1 << 25  # pixels of a frame: 8K
QUALITY = 95  # of a JPEG, of 100
SIZE = "size.txt"  # beside the list: of which size the frames are
CUT = 0.5  # of the frames that a file states: with fewer, it was cut off
OPTION, LOG = "OPENCV_FFMPEG_CAPTURE_OPTIONS", "OPENCV_FFMPEG_LOGLEVEL"
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo"


@dataclass(frozen=True)
class Prepared:
    """The list, how many videos and frames it names, and why others are left out, by name."""

    listing: Path
    videos: int
    frames: int
    bad: Mapping[str, str]


def prepare(
    files: Mapping[str, Path], to: Path, size: int, labels: Mapping[str, int] | None, workers: int, advance: Advance
) -> Prepared:
    """Extract the frames of these videos, by their names, squeezed to `size` x `size`; `advance` is told of videos.

    labels: the class of each; without, that is 0. Raises UsageError for a folder that cannot be written or holds frames
    of another size; WorldlineError where no video can be decoded, MayPass where the disk is full.
    """
    _require_size(to, size)
    lines: list[Line] = []
    bad: dict[str, str] = {}
    with _plain_containers(), ThreadPoolExecutor(workers, "prepare") as pool:
        try:
            for name, frames in pool.map(lambda name: _extract(files[name], to / name, size), sorted(files)):
                if isinstance(frames, str):
                    bad[name] = frames
                else:
                    lines.append(Line(name, frames, labels[name] if labels else 0))
                advance(1, note=name[:30])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if not lines:
        name, why = next(iter(bad.items()))
        raise WorldlineError(f"None of {len(bad):,} videos can be decoded, of {files[name]}: {why}")
    write_list(to / LIST, lines)
    return Prepared(to / LIST, len(lines), sum(line.frames for line in lines), bad)


def videos_below(source: Path, labels: Mapping[str, int] | None) -> tuple[dict[str, Path], dict[str, str]]:
    """Video files by their names, and why others are none. A name is the path below `source` with - between its parts.

    Raises UsageError where there is no video file, or none that is labelled.
    """
    if not source.is_dir():
        raise UsageError(f"{source} is no folder: give one that holds video files")
    home, found, bad = source.resolve(), dict[str, Path](), dict[str, str]()
    files = sorted(each for each in source.rglob("*") if each.suffix.lower() in ENDINGS)
    for file in files:
        name = "-".join(file.relative_to(source).with_suffix("").parts)
        if labels is not None and name not in labels:
            continue
        if not NAME.fullmatch(name) or ".." in name:
            bad[name] = "its name has other characters than letters, digits and _ . = + -: rename it"
        elif name in found:
            bad[f"{name}{file.suffix}"] = f"{found[name].name} has the same name: rename one"
        elif not file.is_file() or not file.resolve().is_relative_to(home):
            bad[name] = "it is a link out of its folder, or no file: copy it there"
        else:
            found[name] = file
    if not found or len(found) > MOST_VIDEOS:
        which = f"{len(files):,} files end in {', '.join(ENDINGS[:4])} and the like, {len(found):,} of them can be read"
        raise UsageError(f"{source}: {which}{' and are labelled' if labels is not None else ''}: give another folder")
    return found, bad


def _require_size(to: Path, size: int) -> None:
    """Frames of two sizes are no set. Raises UsageError."""
    try:
        to.mkdir(parents=True, exist_ok=True)
        stated = (to / SIZE).read_text().strip()[:20] if (to / SIZE).is_file() else ""
        if stated not in ("", str(size)):
            raise UsageError(f"{to} holds frames of size {stated}, not {size}: give another folder, or --size {stated}")
        (to / SIZE).write_text(f"{size}\n")
    except OSError as error:
        if may_pass(error) and not isinstance(error, FileExistsError | PermissionError):
            raise not_now(to, error) from error
        raise UsageError(f"{to} cannot be written ({error.strerror}): give another folder") from error


def _extract(file: Path, folder: Path, size: int) -> tuple[str, int | str]:
    """The video's name with how many frames it has now, or why it has none."""
    if folder.is_dir():
        return folder.name, sum(each.suffix == ".jpg" for each in folder.iterdir())
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        found = _write_frames(file, aside, size)
    except OSError as error:
        raise not_now(aside, error) from error
    if isinstance(found, int):
        aside.rename(folder)
    else:
        shutil.rmtree(aside)
    return folder.name, found


def _write_frames(file: Path, folder: Path, size: int) -> int | str:
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            return "it cannot be decoded: take it away, or copy it again"
        stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT) > LARGEST:
            return f"its frames are larger than {LARGEST:,} pixels: scale it down"
        number = 0
        while True:
            there, frame_HW3 = capture.read()
            if not there or frame_HW3 is None:
                break
            if number == MOST_FRAMES:
                return f"it has more than {MOST_FRAMES:,} frames: cut it into parts"
            number += 1
            small = cv2.resize(np.asarray(frame_HW3), (size, size), interpolation=cv2.INTER_AREA)
            _, packed = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            (folder / f"{number:06d}.jpg").write_bytes(packed.tobytes())
    except cv2.error as error:
        return f"it cannot be decoded ({' '.join(str(error).split())[:120]}): take it away, or copy it again"
    finally:
        capture.release()
    if number == 0 or number < stated * CUT:
        return f"{number} of its {max(stated, 0):,.0f} frames can be decoded: copy it again"
    return number


@contextmanager
def _plain_containers() -> Iterator[None]:
    """While this lasts, OpenCV opens files of plain containers alone, and says nothing of others."""
    wanted = {OPTION: f"protocol_whitelist;file|format_whitelist;{CONTAINERS}", LOG: "-8"}
    before = {name: os.environ.get(name) for name in wanted}
    level = cv2.utils.logging.getLogLevel()
    os.environ |= wanted
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
