"""Films of the newest evaluation of every run: best, median and worst episode.

They are the page's weight (0.4 to 1 MB each), so FILM_BYTES of them are put into it, medians of all scores first; the
others are a still that leads to the file in the store. What is left goes to animations of the first seconds, for
browsers without VP9.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from pipelines.leaderboard.agent_scores import Run, Sample
from pipelines.leaderboard.page import Film, data_uri
from pipelines.store.ref import Ref

KINDS = (".mp4", ".webp", ".gif", ".png")

FILM_BYTES = 8 << 20  # of all together; base64 makes 11 MB of them, which a phone still opens

FIRST = ("median", "best", "worst")  # who is put into the page first

OPENING = "play.gif"

STILL_AT = 1 / 3  # of a film: openings all look the same


@dataclass(frozen=True)
class _File:
    """A film on disk, and what is said of it. `opening` is the animation that may stand in for it."""

    path: Path
    score: Ref
    text: str
    opening: Path | None


def films(samples: Sequence[Sample]) -> list[Film]:
    """Every film, game by game; a still and a link where it is not embedded."""
    files = [file for sample in samples for run in sample.runs for file in _files(sample, run)]
    inside = _within(sorted((file.path for file in files), key=_priority), FILM_BYTES)
    openings = [file.opening for file in files if file.opening]
    left = FILM_BYTES - sum(path.stat().st_size for path in inside)
    inside |= _within(openings, left)
    return [_film(file, inside) for file in files]


def _files(sample: Sample, run: Run) -> list[_File]:
    score = run.entry.score
    names = [name for name in score.names() if Path(name).suffix in KINDS]
    moving = [name for name in names if name.endswith(".mp4")]  # say more than the first seconds
    stands_in = next((name for name in moving if name == "median.mp4"), moving[0] if moving else "")
    seed = f", training seed {run.seed}" if len(sample.runs) > 1 else ""
    found = []
    for name in moving or names:
        what = "" if name == OPENING else f", {Path(name).stem.replace('_', ' ')} episode"
        opening = score.path(OPENING) if name == stands_in and OPENING in names else None
        found.append(_File(score.path(name), score.ref, f"{sample.agent} plays {sample.game}{seed}{what}", opening))
    return found


def _priority(path: Path) -> int:
    return FIRST.index(path.stem) if path.stem in FIRST else 0


def _within(paths: Sequence[Path], most: int) -> set[Path]:
    """Those of `paths` that fit, the earlier ones first."""
    found: set[Path] = set()
    for path in paths:
        size = path.stat().st_size
        if size <= most:
            found.add(path)
            most -= size
    return found


def _film(file: _File, inside: set[Path]) -> Film:
    # From leaderboard/all/KEY/index.html up to the store's root.
    link = f"../../../{file.score}/{file.path.name}"
    if file.path in inside:
        instead = data_uri(file.opening) if file.opening in inside else ""
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
