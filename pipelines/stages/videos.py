"""Stage `videos`: videos without actions in one file, for world models that learn from looking before they act.

`scripted`: the project makes them itself, Meta-world's scripted experts act with noise and a camera looks on. Or they
come from a folder of somebody else's: `npz`, as RLBench's are published, or `frames`, as Something-Something-V2 is
prepared; such a folder is known by its content, where it lies decides nothing.
Files: `videos.h5` (see episodes/videos/video_set.py), `videos.json`, an entry a video, and `videos.png`.
Run: `worldline videos make`, `worldline videos import FOLDER`.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from models.limits import MOST, Few, Seed, Size, Within
from pipelines.environments.metaworld.game import APV_TASKS, CAMERAS, TASKS
from pipelines.environments.registry import GROUPS, game_id, game_named, protocol
from pipelines.errors import UsageError, WorldlineError, nearest
from pipelines.progress import say, size, track
from pipelines.store.artefact import Draft, Report
from pipelines.store.stage_config import Beside, Spec, StageConfig, Work, canonical_json, manner
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.episodes.videos.scripted import Play, Take
    from pipelines.episodes.videos.video_set import Seen, VideoSet

SHEET, SHOWN = "videos.png", 12
LOOKED_AT = 4  # videos of which the first frame is compared with what the environment shows
NAMED = 3  # of what is skipped or odd, so many are named
ODD = 0.05  # share of videos that may be odd before a check fails
TOLD = ("task", "camera", "success", "class", "noise")  # of an entry, what a title says besides name and length
LOST = 0.5  # share of odd videos beyond which nothing may be made from them


OF_SOURCE = {  # the fields that say something to one source alone, or to some
    "scripted": (
        *("tasks", "cameras", "episodes", "noise_from", "noise_to"),
        *("after_success", "limit", "protocol", "seed"),
    ),
    "npz": ("content", "path"),
    "frames": ("content", "path", "classes", "skip_missing", "listing"),
}


@dataclass(frozen=True)
class VideosConfig(StageConfig):
    """Videos of `source`, in the order of their episodes, names or list; shorter ones than `min_frames` are left out.

    scripted: `episodes` of each of `tasks` from each of `cameras`, with normal noise on actions whose standard
    deviation is drawn for each between two numbers, seen under `protocol`, until `after_success` frames after the first
    success and at most `limit` frames. The last videos, which trainings hold out, are of all tasks. tasks: names, or
    groups such as metaworld_apv; none are Meta-world's 44 that are not in that group, by which agents are judged.
    npz and frames: content is the sha256 of the folder's videos, as `worldline videos import` prints it. classes: of
    `frames`, only videos of these classes (none: all). `path` and `listing` say where the files lie.
    `most_bytes` is how large all frames may be unpacked, `workers` how many videos are made or read at a time (0: one a
    core).
    """

    STAGE: ClassVar[str] = "videos"
    VERB: ClassVar[str] = "videos"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("frames_show", "frames_move", "no_duplicates", "upright", "reads_back")
    OF_SOME: ClassVar[tuple[str, ...]] = ("upright",)

    source: Literal["scripted", "npz", "frames"] = "scripted"
    min_frames: Size = 25
    tasks: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ("corner", "corner3")
    episodes: Size = 20
    noise_from: Annotated[float, Within(least=0, most=10)] = 0.1
    noise_to: Annotated[float, Within(least=0, most=10)] = 0.5
    after_success: Few = 10
    limit: Size = 200
    protocol: str = "metaworld_fast"
    seed: Seed = 0
    content: str = ""
    classes: tuple[int, ...] = ()
    skip_missing: bool = False
    path: str = manner("")
    listing: str = manner("")
    most_bytes: Annotated[int, Within(least=1, most=MOST)] = manner(1 << 37)  # Something-Something-V2 is 94 GB
    workers: Few = manner(0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for entry in fields(self):
            if entry.name in _of_others(self.source) and getattr(self, entry.name) != entry.default:
                raise UsageError(
                    f"videos.{entry.name} says nothing to videos.source={self.source}: leave it out, or change the "
                    "source"
                )
        if self.noise_from > self.noise_to:
            raise UsageError(
                f"Noise from {self.noise_from:g} to {self.noise_to:g} is no range: lower videos.noise_from"
            )
        if self.min_frames > self.limit and self.source == "scripted":
            raise UsageError(
                f"videos.min_frames is {self.min_frames} and videos.limit {self.limit}: no video would be long enough, "
                "raise the limit"
            )
        if not {*self.cameras} <= {*CAMERAS} or not self.cameras or len({*self.cameras}) != len(self.cameras):
            raise UsageError(
                f"videos.cameras are {', '.join(self.cameras) or 'none'}: name at least one, each once, of "
                f"{', '.join(CAMERAS)}"
            )
        protocol(self.protocol)
        self.resolved_tasks()

    @property
    def subject(self) -> str:
        return self.source

    def along(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Of another source: what a recipe says to its own, nobody said to that one."""
        if changes.get("source", self.source) == self.source:
            return changes
        others = _of_others(changes["source"])
        return {entry.name: entry.default for entry in fields(self) if entry.name in others} | changes

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The config with its tasks by name. Raises UsageError where nobody said which videos."""
        if not self.content and self.source != "scripted":
            raise UsageError(
                f"Recipe '{beside.name}' names no videos: run 'worldline videos import FOLDER' and set videos.content "
                "as it says"
            )
        return super().fill(values, beside).resolved()

    def resolved(self) -> Self:
        """The same with every task by its name."""
        return replace(self, tasks=self.resolved_tasks()) if self.source == "scripted" else self

    def resolved_tasks(self) -> tuple[str, ...]:
        """Every task by its name, in the order of all games. Raises UsageError for what is no task of Meta-world."""
        found = set()
        for name in (task for each in self.tasks for task in GROUPS.get(each, (each,))):
            try:
                found.add(game_named(name))
            except UsageError as error:
                near = nearest(name, (*TASKS, *GROUPS)) or TASKS[0]
                raise UsageError(
                    f"videos.tasks has '{name[:40]}', no task of Meta-world: did you mean '{near}'?"
                ) from error
        if strangers := sorted(found - {*TASKS}):
            raise UsageError(f"{strangers[0]} has no scripted expert: choose tasks of Meta-world, such as {TASKS[0]}")
        return tuple(sorted(found or {*TASKS} - {*APV_TASKS}, key=game_id))

    def spec(self) -> Spec:
        """Without what says nothing to its source."""
        found = super().spec()
        others = _of_others(self.source)
        return replace(found, config={name: value for name, value in found.config.items() if name not in others})

    def work(self, beside: Beside) -> Work | None:
        """The videos that are made; of a folder nobody knows before."""
        if self.source != "scripted":
            return None
        return Work("videos", len(self.resolved_tasks()) * len(self.cameras) * self.episodes, like=self.protocol)

    def check_frozen(self, beside: Beside) -> None:
        """The rules are Meta-world's, and their episodes long enough."""
        if self.source == "scripted":
            self.plays()

    def plays(self) -> "tuple[Play, list[Take]]":
        """How the experts play, and each video that they make. Raises UsageError for rules that do not fit."""
        from pipelines.episodes.videos.scripted import Play, takes_of

        play = Play(self.protocol, self.after_success, self.limit, self.min_frames)
        play.rules(self.cameras[0])
        noise = (self.noise_from, self.noise_to)
        return play, takes_of(self.resolved_tasks(), self.cameras, self.episodes, noise, self.seed)


def _of_others(source: str) -> set[str]:
    """Fields that say something to other sources alone."""
    return {name for names in OF_SOURCE.values() for name in names} - {*OF_SOURCE.get(source, ())}


def run(config: VideosConfig, store: Store) -> Report:
    """Make the set, or find it.

    Raises UsageError for what is not given, not there or too large, WorldlineError for what is damaged or another set.
    """
    config = config.resolved()
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
    from pipelines.episodes.videos.facts import entries_of, shares
    from pipelines.episodes.videos.video_set import FACTS, VIDEOS, read_back, write_videos

    workers = config.workers or os.cpu_count() or 1
    videos = _played(config, draft, workers) if config.source == "scripted" else open_set(config)
    kept = [video for video, length in enumerate(videos.lengths) if length >= config.min_frames]
    short = [name for name, length in zip(videos.names, videos.lengths, strict=True) if length < config.min_frames]
    total = _require_room(config, videos, kept, short)
    if short:
        named = ", ".join(short[:NAMED])
        say(f"{len(short):,} videos have fewer than {config.min_frames} frames and are left out: {named}")
    path = draft.path(VIDEOS)
    with track(f"Write videos of {videos.where}", 2 * total, "frames") as advance:
        seen, digest = write_videos(videos, kept, path, workers, advance)
        _require_content(config, videos, kept, seen)
        read_back(path, seen, advance)
    draft.part("frames", digest=digest)
    entries = entries_of(videos, kept, seen, config.source)
    draft.path(FACTS).write_text(json.dumps(entries, indent=1) + "\n")
    write_sheet(path, draft.path(FACTS), draft.path(SHEET), SHOWN)
    if config.source != "scripted":
        root = {"path": videos.where, "sha256": config.content, "videos": len(videos.names)}
        draft.roots.append({"source": config.source} | root | videos.facts)
    raw, stored = total * _frame_bytes(), path.stat().st_size
    draft.counts |= {"videos": len(kept), "frames": total, "too_short": len(short)}
    draft.metrics |= {
        "mean_length": round(total / len(kept), 2),
        "motion": round(sum(each.motion for each in seen) / len(seen), 4),
        "shares": shares(entries),
        "too_short": short[:NAMED],
        "raw_bytes": raw,
        "stored_bytes": stored,
        "ratio": round(raw / stored, 2),
    }
    _check(draft, [entry["name"] for entry in entries], seen)
    draft.check("reads_back", True, f"all frames of {len(kept):,} videos read back equal")
    if config.source == "scripted":
        _check_upright(config, draft, path)


def _played(config: VideosConfig, draft: Draft, workers: int) -> "VideoSet":
    """Play what is not there yet, in the scratch folder. Raises UsageError for more frames than `most_bytes` hold."""
    from pipelines.episodes.videos.play_takes import play_all
    from pipelines.episodes.videos.scripted import PlayedVideos

    play, takes = config.plays()
    roots, frames = play.roots(takes), 0
    play = replace(play, made_with=hashlib.sha256(canonical_json(roots).encode()).hexdigest())

    def count(length: int) -> None:
        nonlocal frames
        frames += length
        _require_bytes(config, frames, f"What the experts of {len(config.tasks)} tasks play", "episodes")

    with track("Play Meta-world's experts", len(takes), "videos") as advance:
        play_all(takes, play, draft.scratch / "takes", workers, advance, count)
    told = {"source": config.source, "seed": config.seed, "tasks": list(config.tasks), "cameras": list(config.cameras)}
    draft.roots.append(told | {"noise": [config.noise_from, config.noise_to]} | roots)
    return PlayedVideos(draft.scratch / "takes", play, takes)


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
            "videos.min_frames (--min-frames)"
        )
    total = sum(videos.lengths[video] for video in kept)
    _require_bytes(config, total, videos.where, "videos")
    return total


def _require_bytes(config: VideosConfig, frames: int, where: str, fewer: str) -> None:
    if (raw := frames * _frame_bytes()) > config.most_bytes:
        raise UsageError(
            f"{where} has {frames:,} frames and more, {size(raw)} unpacked; videos.most_bytes allows "
            f"{size(config.most_bytes)}: raise it, or take fewer {fewer}"
        )


def _require_content(config: VideosConfig, videos: "VideoSet", kept: Sequence[int], seen: "Sequence[Seen]") -> None:
    """What was read is what the config names: the digests of what was written, and of what is too short."""
    from pipelines.episodes.videos.video_set import content_of

    if config.source == "scripted":
        return
    known = {video: each.digest for video, each in zip(kept, seen, strict=True)}
    found = content_of([(name, known.get(video) or videos.digest(video)) for video, name in enumerate(videos.names)])
    if found != config.content:
        raise WorldlineError(
            f"{videos.where} has the content {found}, not {config.content}: it is another set, import it as such"
        )


def _check(draft: Draft, names: Sequence[str], seen: "Sequence[Seen]") -> None:
    """Frames show something, videos move, none is there twice. Beyond half of the set, nothing may be made from it."""
    from pipelines.episodes.videos.facts import odd

    for check, (found, what) in odd(names, seen).items():
        which = f" ({', '.join(found[:NAMED])})" if found else ""
        share = len(found) / len(names)
        detail = f"{len(found):,} of {len(names):,} videos {what}{which}"
        draft.check(check, share <= ODD, detail, share > LOST, {"videos": len(found)}, SHEET)
        if check == "no_duplicates":
            draft.counts["duplicates"] = len(found)


def _check_upright(config: VideosConfig, draft: Draft, path: Path) -> None:
    """A few videos begin as the environment shows the same episode, and not as that upside down or mirrored."""
    import numpy as np

    from pipelines.episodes.trajectories import Trajectories
    from pipelines.episodes.videos.scripted import Studio

    play, takes = config.plays()
    data, entries = Trajectories(path), json.loads(draft.path("videos.json").read_text())
    by_name = {take.name: take for take in takes}
    chosen = np.unique(np.linspace(0, len(entries) - 1, LOOKED_AT).astype(int)).tolist()
    wrong = []
    with Studio(play) as studio:
        for video in chosen:
            name, start = entries[video]["name"], int(data.episode_starts[video])
            if not studio.begins_so(by_name[name], data.frames(start, start + 1)[0]):
                wrong.append(name)
    data.close()
    which = f" ({', '.join(wrong[:NAMED])})" if wrong else ""
    detail = f"{len(wrong)} of {len(chosen)} videos begin upside down, mirrored or in other colours{which}"
    draft.check("upright", not wrong, detail, blocking=True, picture=SHEET)


def _frame_bytes() -> int:
    from pipelines.episodes.videos.video_set import FRAME

    return FRAME[0] * FRAME[1] * FRAME[2]
