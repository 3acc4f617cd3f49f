"""Stage `videos`: videos without actions in one file, for world models that learn from looking before they act.

They come from a folder of somebody else's: `npz`, as RLBench's are published, or `frames`, as Something-Something-V2 is
prepared. Such a folder is known by its content; where it lies decides nothing.
Files: `videos.h5` (see episodes/videos/video_set.py), `videos.json`, an entry a video, and `videos.png`.
Run: `worldline videos import FOLDER`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from models.limits import MOST, Few, Size, Within
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import size, track
from pipelines.store.artefact import Draft, Report
from pipelines.store.stage_config import Beside, StageConfig, manner
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.episodes.videos.video_set import Seen, VideoSet

SHEET, SHOWN = "videos.png", 12
NAMED = 3  # of what is skipped or odd, so many are named
ODD = 0.05  # share of videos that may be odd before a check fails
TOLD = ("task", "camera", "success", "class", "noise")  # of an entry, what a title says besides name and length
LOST = 0.5  # share of odd videos beyond which nothing may be made from them


@dataclass(frozen=True)
class VideosConfig(StageConfig):
    """Videos of `source`, in the order of their names or of their list.

    content: sha256 of the folder's videos, as `worldline videos import` prints it. min_frames: shorter videos are left
    out. classes: of `frames`, only videos of these classes (none: all). `path` and `listing` say where the files lie,
    `most_bytes` how large all frames may be unpacked, `workers` how many videos are read at a time (0: one a core).
    """

    STAGE: ClassVar[str] = "videos"
    VERB: ClassVar[str] = "videos"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("frames_show", "frames_move", "no_duplicates", "reads_back")

    source: Literal["npz", "frames"] = "npz"
    content: str = ""
    min_frames: Size = 25
    classes: tuple[int, ...] = ()
    skip_missing: bool = False
    path: str = manner("")
    listing: str = manner("")
    most_bytes: Annotated[int, Within(least=1, most=MOST)] = manner(1 << 34)
    workers: Few = manner(0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source != "frames" and (self.classes or self.skip_missing or self.listing):
            raise UsageError(
                f"videos.classes, videos.skip_missing and videos.listing say nothing to source={self.source}: leave "
                "them out, or set videos.source=frames"
            )

    @property
    def subject(self) -> str:
        return self.source

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The config itself. Raises UsageError where nobody said which videos."""
        if not self.content:
            raise UsageError(
                f"Recipe '{beside.name}' names no videos: run 'worldline videos import FOLDER' and set videos.content "
                "as it says"
            )
        return super().fill(values, beside)


def run(config: VideosConfig, store: Store) -> Report:
    """Make the set, or find it.

    Raises UsageError for what is not given, not there or too large, WorldlineError for what is damaged or another set.
    """
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def identified(config: VideosConfig) -> VideosConfig:
    """The same with the content of what lies at its path, every byte of which is read."""
    from pipelines.episodes.videos.video_set import content_of

    videos = open_set(config)
    digests = []
    with track(f"Read {config.path}", len(videos.names), "videos") as advance:
        for video, name in enumerate(videos.names):
            digests.append((name, videos.digest(video)))
            advance(1)
    return replace(config, content=content_of(digests))


def open_set(config: VideosConfig) -> "VideoSet":
    """The videos at a config's path. Raises UsageError where it names none, and as the readers do."""
    from pipelines.episodes.videos.frame_folders import FrameFolders
    from pipelines.episodes.videos.npz_videos import NpzVideos

    if not config.path:
        raise UsageError(
            f"The videos of content {config.content or '(none)'} are not in this store: bring them with 'worldline "
            "videos import FOLDER', or say where they lie with videos.path=FOLDER"
        )
    folder = Path(config.path)
    if config.source == "npz":
        return NpzVideos(folder)
    return FrameFolders(folder, Path(config.listing) if config.listing else None, config.classes, config.skip_missing)


def _build(config: VideosConfig, draft: Draft) -> None:
    from pipelines.episodes.videos.video_set import FACTS, VIDEOS, read_back, write_videos

    videos = open_set(config)
    kept = [video for video, length in enumerate(videos.lengths) if length >= config.min_frames]
    short = [name for name, length in zip(videos.names, videos.lengths, strict=True) if length < config.min_frames]
    total = _require_room(config, videos, kept, short)
    path, workers = draft.path(VIDEOS), config.workers or os.cpu_count() or 1
    with track(f"Write videos of {videos.where}", 2 * total, "frames") as advance:
        seen, digest = write_videos(videos, kept, path, workers, advance)
        _require_content(config, videos, kept, seen)
        read_back(path, seen, advance)
    draft.part("frames", digest=digest)
    entries = [_entry(config, videos, video, each) for video, each in zip(kept, seen, strict=True)]
    draft.path(FACTS).write_text(json.dumps(entries, indent=1) + "\n")
    write_sheet(path, draft.path(FACTS), draft.path(SHEET), SHOWN)
    draft.roots.append(
        {"source": config.source, "path": videos.where, "sha256": config.content, "videos": len(videos.names)}
        | videos.facts
    )
    raw, stored = total * _frame_bytes(), path.stat().st_size
    draft.counts |= {"videos": len(kept), "frames": total, "too_short": len(short)}
    draft.metrics |= {
        "mean_length": round(total / len(kept), 2),
        "motion": round(sum(each.motion for each in seen) / len(seen), 4),
        "too_short": short[:NAMED],
        "raw_bytes": raw,
        "stored_bytes": stored,
        "ratio": round(raw / stored, 2),
    }
    _check(draft, [videos.names[video] for video in kept], seen)
    draft.check("reads_back", True, f"all frames of {len(kept):,} videos read back equal")


def write_sheet(videos: Path, facts: Path, out: Path, rows: int, scale: int = 1) -> int:
    """Write the PNG at `out`: so many videos, evenly spaced over the set; how many there are on it.

    Raises UsageError where `out` cannot be written, and as `Trajectories` does.
    """
    import numpy as np

    from pipelines.episodes.trajectories import Trajectories
    from pipelines.plots.videos import draw_sheet, places

    data, entries = Trajectories(videos), json.loads(facts.read_text())
    chosen = np.unique(np.linspace(0, len(entries) - 1, min(rows, len(entries))).round().astype(int)).tolist()
    drawn = []
    for video in chosen:
        start, stop = data.episode_starts[video : video + 2].tolist()
        frames = np.concatenate([data.frames(start + place, start + place + 1) for place in places(stop - start)])
        drawn.append((_title(entries[video]), frames))
    data.close()
    try:
        draw_sheet(drawn, out, scale)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): give a PNG in a folder that is there") from error
    return len(drawn)


def _title(entry: dict[str, Any]) -> str:
    more: Sequence[str] = [f"{name} {entry[name]}" for name in TOLD if name in entry]
    return ", ".join([str(entry["name"])[:60], f"{entry['frames']} frames", *more])


def _require_room(config: VideosConfig, videos: "VideoSet", kept: Sequence[int], short: Sequence[str]) -> int:
    """How many frames are kept. Raises UsageError where there is none, or more than `most_bytes` hold."""
    if not kept:
        raise UsageError(
            f"All {len(short):,} videos of {videos.where} have fewer than {config.min_frames} frames: lower "
            "videos.min_frames"
        )
    total = sum(videos.lengths[video] for video in kept)
    if (raw := total * _frame_bytes()) > config.most_bytes:
        raise UsageError(
            f"{total:,} frames of {videos.where} are {size(raw)} unpacked, videos.most_bytes allows "
            f"{size(config.most_bytes)}: raise it to {raw}, or take fewer videos"
        )
    return total


def _require_content(config: VideosConfig, videos: "VideoSet", kept: Sequence[int], seen: "Sequence[Seen]") -> None:
    """What was read is what the config names: the digests of what was written, and of what is too short."""
    from pipelines.episodes.videos.video_set import content_of

    known = {video: each.digest for video, each in zip(kept, seen, strict=True)}
    found = content_of([(name, known.get(video) or videos.digest(video)) for video, name in enumerate(videos.names)])
    if found != config.content:
        raise WorldlineError(
            f"{videos.where} has the content {found}, not {config.content}: it is another set, import it as such"
        )


def _entry(config: VideosConfig, videos: "VideoSet", video: int, seen: "Seen") -> dict[str, Any]:
    return {
        "name": videos.names[video],
        "source": config.source,
        "frames": videos.lengths[video],
        "sha256": seen.digest,
        "motion": round(seen.motion, 4),
        **videos.about(video),
    }


def _check(draft: Draft, names: Sequence[str], seen: "Sequence[Seen]") -> None:
    """Frames show something, videos move, none is there twice. Beyond half of the set, nothing may be made from it."""
    from pipelines.episodes.videos.video_set import FROZEN

    first: dict[str, str] = {}
    for name, each in zip(names, seen, strict=True):
        first.setdefault(each.sha256, name)
    firsts = [first[each.sha256] for each in seen]
    twice = [f"{name} as {other}" for name, other in zip(names, firsts, strict=True) if name != other]
    blank = [name for name, each in zip(names, seen, strict=True) if each.blank]
    still = [name for name, each in zip(names, seen, strict=True) if each.motion < FROZEN]
    told = {
        "frames_show": (blank, "have frames of one colour"),
        "frames_move": (still, "show no motion"),
        "no_duplicates": (twice, "are there twice"),
    }
    for name, (odd, what) in told.items():
        which = f" ({', '.join(odd[:NAMED])})" if odd else ""
        share = len(odd) / len(names)
        detail = f"{len(odd):,} of {len(names):,} videos {what}{which}"
        draft.check(name, share <= ODD, detail, blocking=share > LOST, counts={"videos": len(odd)})
    draft.counts["duplicates"] = len(twice)


def _frame_bytes() -> int:
    from pipelines.episodes.videos.video_set import FRAME

    return FRAME[0] * FRAME[1] * FRAME[2]
