"""Tiny videos on disk as others publish them: a square that wanders over a background of its own."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def wandering(length: int, seed: int = 0, side: int = 64) -> NDArray[np.uint8]:
    """(length, side, side, 3) uint8: smooth enough for a JPEG, and another one for every seed."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 120, side, dtype=np.uint8)
    background = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(40 + seed % 100)), -1)
    frames = np.repeat(background[None], length, 0)
    top, left = rng.integers(0, side // 2, 2).tolist()
    for number, frame in enumerate(frames):
        place = (left + 2 * number) % (side - 12)
        frame[top : top + 12, place : place + 12] = (230, 60 + seed % 90, 30)
    return frames


def write_npz(folder: Path, length: int, seed: int = 0, name: str = "", **changes: Any) -> Path:
    """One archive as RLBench's are published; `changes` are other arrays by name, None takes one out."""
    firsts = np.arange(length) == 0
    arrays: dict[str, Any] = {
        "image": wandering(length, seed),
        "action": np.zeros((length, 4), np.float32),
        "reward": np.zeros(length, np.float32),
        "is_first": firsts,
        "is_last": firsts[::-1],
        "is_terminal": np.zeros(length, bool),
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"20260101T000000-{seed:08x}-{length - 1}.npz")
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def write_frames(root: Path, name: str, length: int, seed: int = 0, label: int = 0, side: int = 64) -> str:
    """One folder of JPEGs as Something-Something-V2 is prepared; its line of the list."""
    folder = root / name
    folder.mkdir(parents=True)
    for number, frame in enumerate(wandering(length, seed, side), 1):
        Image.fromarray(frame).save(folder / f"{number:06d}.jpg", quality=95)
    return f"{name} {length} {label}"


def write_list(root: Path, *lines: str) -> Path:
    """The list of a root."""
    path = root / "videos.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
