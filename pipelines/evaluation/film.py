"""Films of episodes, made by playing them again: no frame is kept while an agent plays.

mp4 with VP9, the one codec for browsers that opencv's wheels can write; animated WebP where they cannot.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.environments.rollout import Episode

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


def write(frames: Iterable[NDArray[np.uint8]], path: Path) -> Path:
    """Write a film next to `path`, whose ending it gets: .mp4, or .webp without an encoder.

    Frames are (H, W) or (H, W, 3) uint8, at least one, all of one shape.

    It shows the first `LONGEST` steps.
    """
    shown = iter(frames)
    first, target = next(shown), path.with_suffix(".mp4")
    shown, size = chain([first], shown), _size(first, SCALE)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*CODEC), STEPS_PER_SECOND, size)
    if not writer.isOpened():
        target.unlink(missing_ok=True)
        return write_animation(islice(shown, LONGEST), path.with_suffix(".webp"), STEPS_PER_SECOND, SCALE)
    for number, frame in enumerate(shown):
        if number < LONGEST:  # the rest is played too: at its end the return is compared
            large = cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST)
            writer.write(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR))
    writer.release()
    return target


def write_animation(frames: Iterator[NDArray[np.uint8]], path: Path, rate: float, scale: int) -> Path:
    """Write an endless GIF or WebP of `rate` frames a second. Frames are (H, W) or (H, W, 3) uint8."""
    pictures = [Image.fromarray(frame).resize(_size(frame, scale), Image.Resampling.NEAREST) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=int(1000 / rate), loop=0, optimize=True)
    return path


def _size(frame: NDArray[np.uint8], scale: int) -> tuple[int, int]:
    """(width, height) of a frame enlarged, as cv2 and Pillow order them."""
    return frame.shape[1] * scale, frame.shape[0] * scale
