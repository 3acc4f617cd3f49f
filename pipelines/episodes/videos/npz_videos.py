"""Videos of a folder of `*.npz`, one an episode, as RLBench's were published for APV and PreLAR.

An archive holds `image` (L, 64, 64, 3) uint8; action, reward and is_first lie beside it and say nothing here, but that
they have L rows too and that the episode begins once. A name that ends in `-N.npz` states L = N + 1. Nothing is
unpickled, and nothing is allocated before its stated size was found possible and true.
Letters: L frames of a video.
"""

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.episodes.npz_file import NpzFile
from pipelines.episodes.videos.video_set import FRAME, MOST_FRAMES, MOST_VIDEOS
from pipelines.errors import BAD_NPZ, UsageError, WorldlineError, may_pass, not_now
from pipelines.store.files import sha256_of

IMAGE, FIRST = "image", "is_first"
BESIDE = ("action", "reward", FIRST, "is_last", "is_terminal")
LARGEST = 1 << 30  # bytes of an archive, which is read whole so that its hash and its frames are of the same bytes


class NpzVideos:
    """A `VideoSet`. Raises UsageError for a folder without archives, WorldlineError for one that lies or is damaged."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._files = _archives(folder)
        self.names = tuple(each.stem for each in self._files)
        self.lengths = tuple(self._length(each) for each in self._files)
        self.facts: dict[str, Any] = {"bytes": sum(each.stat().st_size for each in self._files)}

    def digest(self, video: int) -> str:
        """Hex sha256 of the archive."""
        try:
            return sha256_of(self._files[video])
        except OSError as error:
            raise _damaged(self._files[video], error) from error

    def load(self, video: int) -> tuple[str, NDArray[np.uint8]]:
        """The archive's sha256 and its frames (L, 64, 64, 3)."""
        file = self._files[video]
        try:
            raw = file.read_bytes()
            archive = _opened(io.BytesIO(raw))
            frames = archive.rows(0, archive.stated[IMAGE][0][0])
        except (*BAD_NPZ, OSError, KeyError, StopIteration) as error:
            raise _damaged(file, error) from error
        return hashlib.sha256(raw).hexdigest(), frames

    def about(self, video: int) -> dict[str, Any]:
        """Nothing more is known."""
        return {}

    def _length(self, file: Path) -> int:
        """L; checks what the archive says of itself. Of its arrays the smallest alone is read."""
        try:
            size = file.stat().st_size
            if size > LARGEST:
                raise ValueError(f"{size:,} bytes, at most {LARGEST:,} are read")
            archive = _opened(file)
            stated = archive.stated
            if IMAGE not in stated:
                raise ValueError(
                    f"there is no {IMAGE} in it, but {', '.join(sorted(archive.members)[:9]) or 'nothing'}"
                )
            shape, dtype = stated[IMAGE]
            if len(shape) != 4 or shape[1:] != FRAME or dtype != np.uint8:
                repair = "make bytes of its numbers" if dtype != np.uint8 else "resize its frames"
                raise ValueError(f"{IMAGE} is {shape} {dtype}, only (L, 64, 64, 3) uint8 is read: {repair}")
            if not 1 <= shape[0] <= MOST_FRAMES:
                raise ValueError(f"{IMAGE} has {shape[0]:,} frames, a video has 1 to {MOST_FRAMES:,}: split it")
            _require_beside(archive, shape[0])
            archive.close()
        except (*BAD_NPZ, OSError, KeyError) as error:
            raise _damaged(file, error) from error
        stated_length = re.search(r"-(\d{1,9})$", file.stem)
        if stated_length and int(stated_length[1]) != shape[0] - 1:
            raise WorldlineError(
                f"{file} has {shape[0]:,} frames and its name says {stated_length[1]} steps, one less: it was cut off "
                "or renamed, copy it again"
            )
        return int(shape[0])


def is_there(folder: Path) -> bool:
    """Whether a folder holds such archives, by their names."""
    return folder.is_dir() and any(each.suffix == ".npz" for each in folder.iterdir())


def _archives(folder: Path) -> list[Path]:
    try:
        found = sorted(each for each in folder.iterdir() if each.suffix == ".npz")
        home = folder.resolve()
    except OSError as error:
        if may_pass(error):
            raise not_now(folder, error) from error
        raise UsageError(f"{folder} cannot be read ({error.strerror}): give a folder of .npz files") from error
    if not found or len(found) > MOST_VIDEOS:
        raise UsageError(
            f"{folder} holds {len(found):,} .npz files, 1 to {MOST_VIDEOS:,} are read: give another folder"
        )
    for each in found:
        if not each.is_file() or not each.resolve().is_relative_to(home):
            raise UsageError(f"{each} is a link out of its folder or no file: copy the file itself there")
    return found


def _opened(file: Path | io.BytesIO) -> NpzFile:
    return NpzFile(file, (IMAGE, *BESIDE), IMAGE)


def _require_beside(archive: NpzFile, length: int) -> None:
    """What lies beside the frames is of as many steps. Raises ValueError."""
    for name, (shape, _) in archive.stated.items():
        if not shape or shape[0] != length:
            raise ValueError(f"{name} is {shape} beside {length:,} frames, one row a frame is meant")
    if FIRST in archive.stated:
        shape, dtype = archive.stated[FIRST]
        if shape != (length,) or dtype.kind not in "biuf":
            raise ValueError(f"{FIRST} is {shape} {dtype}, ({length},) of truth values is meant")
        firsts = np.flatnonzero(archive.whole(FIRST))
        if len(firsts) > 1 or firsts[:1].any():
            raise ValueError(
                f"an episode begins at frame {int(firsts[-1])}, one archive is one episode: split it there"
            )


def _damaged(file: Path, error: BaseException) -> WorldlineError:
    if may_pass(error):
        return not_now(file, error)
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return WorldlineError(f"{file} cannot be read as a video ({why}): write or copy it again, or take it away")
