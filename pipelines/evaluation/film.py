"""Films of episodes, made by playing them again: no frame is kept while an agent plays.

mp4 with VP9, the one codec for browsers that opencv's wheels can write; animated WebP where they cannot. On wish mp4
with H.264, which plays everywhere, where there is an ffmpeg that has it: that of the extra `film`, or the system's.
"""

import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.environments.rollout import Episode
from pipelines.errors import WorldlineError
from pipelines.redact import one_line

STEPS_PER_SECOND = 15  # of the game at its own speed

SCALE = 2  # encoding costs four times as much at 4, and pages can enlarge

LONGEST = 9_000  # agent steps: ten minutes

CODEC = "vp09"


def chosen(episodes: Sequence[Episode]) -> dict[str, Episode]:
    """The best, the worst and the median episode by return; of few episodes, each only once, under the first name."""
    ranked = sorted(episodes, key=lambda episode: (episode.score, episode.episode))
    names = {"best": ranked[-1], "worst": ranked[0], "median": ranked[(len(ranked) - 1) // 2]}
    found: dict[str, Episode] = {}
    for name, episode in names.items():
        if episode not in found.values():
            found[name] = episode
    return found


def write(frames: Iterable[NDArray[np.uint8]], path: Path, scale: int = SCALE, program: str = "") -> Path:
    """Write a film next to `path`, whose ending it gets: .mp4, or .webp without an encoder.

    Frames are (H, W) or (H, W, 3) uint8, at least one, all of one shape, enlarged by `scale` to even sizes.

    It shows the first `LONGEST` steps. `program` is an ffmpeg (`ffmpeg`), which then writes H.264; raises
    WorldlineError where it fails.
    """
    shown = iter(frames)
    first, target = next(shown), path.with_suffix(".mp4")
    shown, size = chain([first], shown), _size(first, scale)
    if program:
        return _write_h264(program, shown, target, size)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*CODEC), STEPS_PER_SECOND, size)
    if not writer.isOpened():
        target.unlink(missing_ok=True)
        return write_animation(islice(shown, LONGEST), path.with_suffix(".webp"), STEPS_PER_SECOND, scale)
    for large in _enlarged(shown, size):
        writer.write(cv2.cvtColor(large, cv2.COLOR_RGB2BGR))
    writer.release()
    return target


@cache
def ffmpeg() -> str:
    """An ffmpeg that can encode H.264; "" where there is none."""
    try:
        import imageio_ffmpeg

        program = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        program = shutil.which("ffmpeg") or ""
    if not program:
        return ""
    try:
        done = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return program if b" libx264 " in done.stdout else ""


def _write_h264(program: str, frames: Iterator[NDArray[np.uint8]], target: Path, size: tuple[int, int]) -> Path:
    """Through a pipe, with the pixels that every player reads (yuv420p) and what it asks for first in front."""
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", str(STEPS_PER_SECOND), "-i", "-"]
    coded = [
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-threads",
        "1",
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
    ]
    command = [program, "-y", "-loglevel", "error", *raw, "-an", *coded, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        try:
            for large in _enlarged(frames, size):
                process.stdin.write(large.tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it says why below
        except BaseException:
            process.kill()
            target.unlink(missing_ok=True)
            raise
        said = process.stderr.read().decode(errors="replace")
    if process.returncode:
        target.unlink(missing_ok=True)
        raise WorldlineError(f"{program} could not write a film ({one_line(said)[:200]}): free disk, or take it away")
    return target


def _enlarged(frames: Iterator[NDArray[np.uint8]], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """The first `LONGEST` frames, in colour. The rest is played too: at its end the return is compared."""
    for number, frame in enumerate(frames):
        if number < LONGEST:
            large = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST))
            yield np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB) if large.ndim == 2 else large, np.uint8)


def write_animation(frames: Iterator[NDArray[np.uint8]], path: Path, rate: float, scale: int) -> Path:
    """Write an endless GIF or WebP of `rate` frames a second. Frames are (H, W) or (H, W, 3) uint8."""
    pictures = [Image.fromarray(frame).resize(_size(frame, scale), Image.Resampling.NEAREST) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=int(1000 / rate), loop=0, optimize=True)
    return path


def _size(frame: NDArray[np.uint8], scale: int) -> tuple[int, int]:
    """(width, height) of a frame enlarged, as cv2 and Pillow order them."""
    return frame.shape[1] * scale, frame.shape[0] * scale
