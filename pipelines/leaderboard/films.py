"""Films of the newest evaluation of every run: best, median and worst episode.

They are the page's weight (0.4 to 1 MB each), so FILM_BYTES of them are put into it, medians of all scores first; the
others are a still that leads to the file in the store. Cost: 20 ms a film, for its still.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from pipelines.leaderboard.page import Film, data_uri
from pipelines.leaderboard.sample import Sample
from pipelines.store.ref import Ref

KINDS = (".mp4", ".webp", ".gif", ".png")
FILM_BYTES = 8 << 20  # of all together; base64 makes 11 MB of them, which a phone still opens
FIRST = ("median", "best", "worst")  # who is put into the page first
OPENING = "play.gif"  # the first seconds, for browsers that cannot play VP9
STILL_AT = 1 / 3  # of a film: openings all look the same


@dataclass(frozen=True)
class _File:
    """A film on disk, and what is said of it."""

    path: Path
    score: Ref
    text: str
    instead: Path | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Medians first; of equals the small ones, so that more games are seen."""
        stem = self.path.stem
        return FIRST.index(stem) if stem in FIRST else 0, self.size

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in (self.path, self.instead) if path)


def films(samples: Sequence[Sample]) -> list[Film]:
    """Every film, game by game; named and linked where it is not embedded."""
    files = [file for sample in samples for file in _files(sample)]
    left, inside = FILM_BYTES, set()
    for place in sorted(range(len(files)), key=lambda place: (files[place].order, place)):
        if files[place].size <= left:
            left -= files[place].size
            inside.add(place)
    return [_film(file, place in inside) for place, file in enumerate(files)]


def _files(sample: Sample) -> list[_File]:
    found = []
    for run in sample.runs:
        score = run.entry.score
        names = [name for name in score.names() if Path(name).suffix in KINDS]
        moving = [name for name in names if name.endswith(".mp4")]
        seed = f", training seed {run.seed}" if len(sample.runs) > 1 else ""
        for name in moving or names:  # best, median and worst say more than the first seconds
            what = "" if name == OPENING else f", {Path(name).stem.replace('_', ' ')} episode"
            own_opening = moving and OPENING in names and name == (_median(moving) or moving[0])
            text = f"{sample.agent} plays {sample.game}{seed}{what}"
            found.append(_File(score.path(name), score.ref, text, score.path(OPENING) if own_opening else None))
    return found


def _median(names: Sequence[str]) -> str:
    return next((name for name in names if Path(name).stem == "median"), "")


def _film(file: _File, inside: bool) -> Film:
    # From leaderboard/all/KEY/index.html up to the store's root.
    link = f"../../../{file.score}/{file.path.name}"
    if inside:
        instead = data_uri(file.instead) if file.instead else ""
        return Film(file.text, data_uri(file.path), still(file.path), instead, link)
    return Film(
        f"{file.text} ({file.path.stat().st_size / 1e6:.1f} MB, not in this page)", "", still(file.path), "", link
    )


def still(path: Path) -> str:
    """A frame of an mp4 as a data URI; "" where there is none to read."""
    if path.suffix != ".mp4":
        return ""
    film = cv2.VideoCapture(str(path))
    try:
        film.set(cv2.CAP_PROP_POS_FRAMES, int(film.get(cv2.CAP_PROP_FRAME_COUNT) * STILL_AT))
        there, frame = film.read()
    finally:
        film.release()
    if not there:
        return ""
    made, raw = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    return data_uri(raw.tobytes(), ".png") if made else ""
