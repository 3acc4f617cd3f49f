"""Videos as folders of frames, `<root>/<video>/%06d.jpg` from 000001 on, with a list of them.

So Something-Something-V2 is prepared, and `worldline videos prepare` writes it. A line of the list is
`video frames class`; the class is a whole number. No name leaves the root, and a picture is decoded after its own
header said that it is of the right size.
Letters: L frames of a video.
"""

import errno
import hashlib
import io
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.episodes.videos.video_set import FRAME, MOST_FRAMES, MOST_VIDEOS
from pipelines.errors import UsageError, WorldlineError, may_pass, not_now
from pipelines.store.files import write_whole

LIST = "videos.txt"
LARGEST_LIST = 1 << 26  # bytes
LARGEST_FRAME = 1 << 20  # bytes
NAMED = 3  # of what is wrong, so many are named
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,199}")


@dataclass(frozen=True)
class Line:
    """One line of a list."""

    name: str
    frames: int
    label: int

    def __str__(self) -> str:
        return f"{self.name} {self.frames} {self.label}"


class FrameFolders:
    """A `VideoSet`. classes: only videos of these; none means all. skip_missing: leave out what is not there.

    Raises UsageError for a root, a list or a class that is not there, WorldlineError for a list that is none and for
    frames that are missing, damaged or of another size.
    """

    def __init__(
        self, root: Path, listed: Path | None = None, classes: Collection[int] = (), skip_missing: bool = False
    ) -> None:
        self.where, self._root, self._home = str(root), root, root.resolve()
        if not root.is_dir():
            raise UsageError(
                f"{root} is no folder: give one of .npz archives, or of frames, as 'worldline videos prepare' writes it"
            )
        where = listed or root / LIST
        lines = read_list(where)
        chosen = [line for line in lines if not classes or line.label in classes]
        if absent := sorted(set(classes) - {line.label for line in lines}):
            raise UsageError(f"{where} has no video of class {absent[0]}: it has {_range(lines)}")
        gaps = {line.name: gap for line in chosen if (gap := self._gap(line))}
        if gaps and not skip_missing:
            told = "; ".join(list(gaps.values())[:NAMED])
            raise WorldlineError(
                f"{len(gaps):,} of {len(chosen):,} videos of {where} are not whole below {root} ({told}): prepare "
                "them again, take them out of the list, or leave them out by --skip-missing (videos.skip_missing=true)"
            )
        self._lines = [line for line in chosen if line.name not in gaps]
        if not self._lines:
            raise UsageError(f"{where} names no video that is below {root}: give the list that belongs to it")
        self.names = tuple(line.name for line in self._lines)
        self.lengths = tuple(line.frames for line in self._lines)
        self.facts: dict[str, Any] = {
            "list": str(where),
            "list_sha256": hashlib.sha256(where.read_bytes()).hexdigest(),
            "listed": len(lines),
            "missing": len(gaps),
            "missing_first": list(gaps.values())[:NAMED],
        }

    def digest(self, video: int) -> str:
        """Hex sha256 of its line and of all its files."""
        return _digest(self._lines[video], self._files(self._lines[video]))

    def load(self, video: int) -> tuple[str, NDArray[np.uint8]]:
        """The same, and its frames (L, 64, 64, 3)."""
        line = self._lines[video]
        raw = self._files(line)
        frames = np.empty((line.frames, *FRAME), np.uint8)
        for number, data in enumerate(raw):
            frames[number] = self._decoded(line, number + 1, data)
        return _digest(line, raw), frames

    def about(self, video: int) -> dict[str, Any]:
        """Its class."""
        return {"class": self._lines[video].label}

    def _gap(self, line: Line) -> str:
        """What is missing of a video, as far as its first and last frame tell; empty where these are there."""
        if not (self._root / line.name).is_dir():
            return f"{line.name} has no folder"
        numbers = (1, line.frames)
        return next((f"{line.name} lacks {_file(n)}" for n in numbers if not self._path(line, n).is_file()), "")

    def _path(self, line: Line, number: int) -> Path:
        return self._root / line.name / _file(number)

    def _files(self, line: Line) -> list[bytes]:
        """The bytes of every frame. No link is followed out of the root, nor at a file."""
        folder = self._root / line.name
        if not folder.resolve().is_relative_to(self._home):
            raise WorldlineError(f"{folder} is a link out of {self._root}: copy the folder itself there")
        return [_bytes(f"{folder}/{_file(number)}", line) for number in range(1, line.frames + 1)]

    def _decoded(self, line: Line, number: int, data: bytes) -> NDArray[np.uint8]:
        path = self._path(line, number)
        try:
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
                if picture.size != (FRAME[1], FRAME[0]):
                    raise WorldlineError(
                        f"{path} is {picture.size[0]}x{picture.size[1]} pixels, frames are {FRAME[1]}x{FRAME[0]}: make "
                        "them anew with 'worldline videos prepare --from VIDEOS --to FOLDER'"
                    )
                return np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise WorldlineError(
                f"{path} is no sound JPEG ({' '.join(str(error).split())[:120]}): prepare the video again"
            ) from error


def read_list(path: Path) -> list[Line]:
    """The lines of a list. Raises UsageError for one that is not there, WorldlineError naming the first bad line."""
    repair = "give it by --list (videos.listing), have it written by 'worldline videos prepare', or give .npz archives"
    text = _text(path, "a list of lines 'video frames class'", repair)
    lines = [_line(path, number, words) for number, words in enumerate(map(str.split, text.splitlines()), 1) if words]
    if not lines or len(lines) > MOST_VIDEOS:
        raise WorldlineError(f"{path} names {len(lines):,} videos, 1 to {MOST_VIDEOS:,} are read: give another list")
    seen: set[str] = set()
    for line in lines:
        if line.name in seen:
            raise WorldlineError(f"{path} names '{line.name}' twice: name each video once")
        seen.add(line.name)
    return lines


def write_list(path: Path, lines: Sequence[Line]) -> None:
    """Write a list, whole or not at all."""
    write_whole(path, "".join(f"{line}\n" for line in lines).encode(), path.with_name(f".{path.name}"))


def read_labels(path: Path) -> dict[str, int]:
    """Video's name -> class, of a file of lines 'video class'. Raises as `read_list`."""
    text = _text(path, "a file of lines 'video class'", "give one with --labels")
    found: dict[str, int] = {}
    for number, words in enumerate(map(str.split, text.splitlines()), 1):
        if words and (len(words) != 2 or not re.fullmatch(r"[0-9]{1,9}", words[1])):
            raise WorldlineError(f"{path}, line {number} is '{' '.join(words)[:60]}': write 'video class'")
        found |= {words[0]: int(words[1])} if words else {}
    return found


def _text(path: Path, what: str, repair: str) -> str:
    try:
        if (size := path.stat().st_size) > LARGEST_LIST:
            raise WorldlineError(f"{path} has {size:,} bytes, at most {LARGEST_LIST:,} are read: cut it")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WorldlineError(f"{path} is no text: give {what}") from error
    except OSError as error:
        if may_pass(error):
            raise not_now(path, error) from error
        raise UsageError(f"The list {path} cannot be read ({error.strerror}): {repair}") from error


def _line(path: Path, number: int, words: list[str]) -> Line:
    numbers = [word for word in words[1:] if re.fullmatch(r"[0-9]{1,9}", word)]
    name = words[0]
    if len(words) != 3 or len(numbers) != 2 or not NAME.fullmatch(name) or ".." in name:
        raise WorldlineError(
            f"{path}, line {number} is '{' '.join(words)[:60]}': write 'video frames class', a folder's plain name and "
            "two whole numbers"
        )
    if not 1 <= int(numbers[0]) <= MOST_FRAMES:
        raise WorldlineError(f"{path}, line {number} states {numbers[0]} frames, a video has 1 to {MOST_FRAMES:,}")
    return Line(name, int(numbers[0]), int(numbers[1]))


def _bytes(path: str, line: Line) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            raw = file.read(LARGEST_FRAME + 1) or b""
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise WorldlineError(f"{path} is a link: copy the file itself there") from error
        if may_pass(error):
            raise not_now(path, error) from error
        raise WorldlineError(
            f"{path} cannot be read ({error.strerror}), its list says {line.frames} frames: prepare the video again"
        ) from error
    if len(raw) > LARGEST_FRAME:
        raise WorldlineError(f"{path} has more than {LARGEST_FRAME:,} bytes, no frame has: prepare the video again")
    return raw


def _file(number: int) -> str:
    return f"{number:06d}.jpg"


def _digest(line: Line, raw: list[bytes]) -> str:
    whole = hashlib.sha256(f"{line}\n".encode())
    for data in raw:
        whole.update(hashlib.sha256(data).digest())
    return whole.hexdigest()


def _range(lines: list[Line]) -> str:
    found = sorted({line.label for line in lines})
    return f"{found[0]} to {found[-1]}" if len(found) > NAMED else ", ".join(map(str, found))
