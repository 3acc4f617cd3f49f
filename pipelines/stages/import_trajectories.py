"""Stages `imported_trajectories` and `imported_shards`: what lies in another layout, ready for every later stage.

What `worldline export trajectories` wrote comes back as a game's episodes, frames, actions, rewards and ends bit for
bit: `jowa-h5` (also as JOWA's own scripts write it), `zarr` and `webdataset`. So does the trajectories.h5 of an
artefact, which is how others learn from what an agent played. What others recorded comes too: data sets
of Minari, and one's own `episodes` as docs/import.md lays them out. Files are known by their content: where they lie
decides nothing. Of a webdataset's shards the list alone may be taken, their `shards.json`, which pins each by its
sha256: the shards stay where they are, and training streams them from there.
Run: `worldline import trajectories exports/Pong.zarr --game Pong`, `worldline import shards URL --game Pong`.
"""

import hashlib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pipelines.environments.registry import game_named, require_game
from pipelines.errors import UsageError, WorldlineError, may_pass, not_now
from pipelines.progress import track
from pipelines.store.artefact import Draft, Report
from pipelines.store.files import sha256_of
from pipelines.store.profile import Profile
from pipelines.store.stage_config import Beside, StageConfig, canonical_json, filled, manner, option
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.batches.shards import ShardSet
    from pipelines.episodes.trajectories import TrajectoryReader

HDF5 = b"\x89HDF\r\n\x1a\n"
BLOCK = 4096  # frames, whole chunks of them: 29 MB
ASIDE = "frames.raw"
ORIGIN = ("ref", "manifest_sha256", "format", "options")  # what an export of ours says of itself


@dataclass(frozen=True)
class BroughtConfig(StageConfig):
    """What is brought in for a game from outside, known by its content: where that lies decides nothing.

    A recipe names it in `contents`, a GAME:SHA256 for each game. `WHAT` and `HOW` are the words for it.
    """

    WHAT: ClassVar[str]
    HOW: ClassVar[str]  # the command, without the game

    contents: tuple[str, ...] = option(())
    game: str = filled("game", "")
    sha256: str = filled("contents", "")

    def __post_init__(self) -> None:
        super().__post_init__()
        for entry in self.contents:
            if not re.fullmatch("[A-Za-z0-9_]+:[0-9a-f]{64}", entry):
                raise UsageError(
                    f"{self.VERB}.contents has '{entry}': write GAME:SHA256 for each game, as '{self.HOW}' prints it"
                )
            game_named(entry.partition(":")[0])

    @property
    def subject(self) -> str:
        return self.game

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The config of one game, with its own content. Raises UsageError where the recipe names none for it."""
        known = {game_named(game): sha256 for game, sha256 in (entry.split(":") for entry in self.contents)}
        if values["game"] not in known:
            raise UsageError(
                f"Recipe '{beside.name}' names no {self.WHAT} of {values['game']}: run '{self.HOW} --game "
                f"{values['game']}' and set {self.VERB}.contents={values['game']}:SHA256 as it says"
            )
        return super().fill(values | {"contents": (), "sha256": known[values["game"]]}, beside)

    def absent(self, how: str = "", other: str = "") -> UsageError:
        """What is wrong where nobody said where the content lies; how: what else it must be, other: another repair."""
        return UsageError(
            f"The {self.WHAT} of {self.game} with sha256 {self.sha256}{how} are not in this store: bring them with "
            f"'{self.HOW} --game {self.game}'{other}"
        )


@dataclass(frozen=True)
class ImportConfig(BroughtConfig):
    """Import a game's episodes from `path`, a file or folder whose content has this sha256 (see `content_of`).

    `format` is one of FORMATS, and told by the files themselves unless given. Once imported, the files are not needed.
    """

    STAGE: ClassVar[str] = "imported_trajectories"
    VERB: ClassVar[str] = "import"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("rewards_clipped", "ends_bound_episodes", "reads_back")
    WHAT: ClassVar[str] = "imported trajectories"
    HOW: ClassVar[str] = "worldline import trajectories PATH"

    path: str = manner("")
    format: str = manner("")


@dataclass(frozen=True)
class ShardsConfig(BroughtConfig):
    """The shards that a `shards.json` of this sha256 lists, which lay at `url` when it was imported.

    They were cut as the recipe's `segment` says.
    """

    STAGE: ClassVar[str] = "imported_shards"
    VERB: ClassVar[str] = "shards"
    CODE: ClassVar[str] = "1"
    WHAT: ClassVar[str] = "shards"
    HOW: ClassVar[str] = "worldline import shards URL"

    length: int = filled("segment", 8)
    stride: int = filled("segment", 4)
    padding: str = filled("segment", "right")
    url: str = manner("")

    @property
    def cut(self) -> str:
        """How the episodes were cut, in words."""
        return f"length {self.length}, stride {self.stride}, padding {self.padding}"

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The config of one game, with the cut that the recipe wants."""
        cut = beside.template("segment")
        wanted = {} if cut is None else {name: getattr(cut, name) for name in ("length", "stride", "padding")}
        return super().fill(values | wanted, beside)


def run(config: BroughtConfig, store: Store) -> Report:
    """Import the episodes, or the list of shards, that `config` names, or find their artefact.

    Raises UsageError for what is not given, not there, of another layout, game or content; WorldlineError for what is
    damaged.
    """
    if isinstance(config, ShardsConfig):
        return store.produce(config.spec(), lambda draft: _build_shards(config, draft, store.profile))
    assert isinstance(config, ImportConfig)

    def build(draft: Draft) -> None:
        try:
            _build(config, draft)
        finally:
            (draft.scratch / ASIDE).unlink(missing_ok=True)  # it may be large, and is of no use to the next run

    return store.produce(config.spec(), build)


def content_of(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The sha256 that stands for a file or a folder, and of each file: name, sha256 and bytes.

    A file's is its own; a folder's is that of the sorted names and hashes of all files in it. Raises UsageError for
    what is not there, and for a folder that holds links out of it or nothing.
    """
    try:
        if not path.is_dir():
            files = [path]
        else:
            files = sorted(each for each in path.rglob("*") if not each.is_dir() or each.is_symlink())
            home = path.resolve()
            for each in files:
                if not each.resolve().is_relative_to(home) or not each.is_file():
                    raise UsageError(f"{each} is a link out of its folder or no file: copy the file itself there")
        entries = [
            {
                "file": path.name if each == path else each.relative_to(path).as_posix(),
                "sha256": sha256_of(each),
                "bytes": each.stat().st_size,
            }
            for each in files
        ]
    except OSError as error:
        if may_pass(error):
            raise not_now(error.filename or path, error) from error
        raise UsageError(f"{path} cannot be read ({error.strerror}): give a file or folder of an export") from error
    if not entries:
        raise UsageError(f"{path} is empty: give a file or folder of an export")
    if path.is_file():
        return str(entries[0]["sha256"]), entries
    listed = canonical_json([[entry["file"], entry["sha256"]] for entry in entries])
    return hashlib.sha256(listed.encode()).hexdigest(), entries


def format_of(path: Path, given: str = "") -> str:
    """The layout of what lies at `path`. Raises UsageError for one that is none of FORMATS, or not the one `given`."""
    if given and given not in FORMATS:
        raise UsageError(f"Format '{given}' is unknown: trajectories are imported from {', '.join(FORMATS)}")
    found = next((name for name, layout in FORMATS.items() if layout.is_there(path)), "")
    if not found:
        if path.is_dir():
            there = "is a folder without shards.json, zarr.json, metadata.json of Minari, or .npz and .h5 files"
        else:
            there = f"begins with {_start(path)!r}, which is no HDF5 file, and is no .npz file"
        raise UsageError(f"{path} {there}: give an export, JOWA's NAME.h5, or what docs/import.md describes")
    if given and found != given:
        raise UsageError(f"{path} is {found}, not {given}: leave --format out, or give the other file")
    return found


def _build(config: ImportConfig, draft: Draft) -> None:
    import numpy as np

    from pipelines.environments.actions import action_names

    if not config.path:
        raise config.absent()
    path = Path(config.path)
    content, files = content_of(path)
    if content != config.sha256:
        raise UsageError(f"{path} has the content {content}, not {config.sha256}: it is another, import it as such")
    form = format_of(path, config.format)
    if form not in HOLD_NUMBERS and not action_names(config.game):
        wanted = f"import what holds such ({', '.join(HOLD_NUMBERS)})"
        raise UsageError(f"{form} holds an action by its number, and an action of {config.game} is numbers: {wanted}")
    source = FORMATS[form].read(path, config.game, draft.scratch / ASIDE)
    require_game(path, source.game, config.game)
    stored = _write(source, draft)
    size = sum(each["bytes"] for each in files)
    draft.roots.append({"path": str(path), "format": form, "sha256": content, "bytes": size, **_origin(source)})
    raw_returns = getattr(source, "raw_returns", [])
    draft.roots += files if path.is_dir() else []
    lengths = np.diff(source.episode_starts)
    returns = np.add.reduceat(source.rewards.astype(np.float64), source.episode_starts[:-1])
    draft.counts |= {"episodes": source.num_episodes, "transitions": len(source)}
    raw = len(source) * int(np.prod(source.frame_shape))
    named = bool(action_names(config.game))
    draft.metrics |= {
        f"mean_{'clipped' if named else 'raw'}_return": round(float(returns.mean()), 4),
        "mean_length": round(float(lengths.mean()), 2),
        "raw_bytes": raw,
        "stored_bytes": stored,
        "ratio": round(raw / stored, 2),
    }
    if raw_returns:
        draft.metrics["mean_raw_return"] = round(float(np.mean(raw_returns)), 4)
    odd = int((~np.isin(source.rewards, (-1, 0, 1))).sum()) if named else 0
    told = f"{odd:,} rewards outside -1, 0, 1" if named else "where an action is numbers, rewards stay the game's own"
    draft.check("rewards_clipped", not odd, told, blocking=True)
    ends = source.terminals + source.truncations
    wrong = int((ends != np.isin(np.arange(len(source)), source.episode_starts[1:] - 1)).sum())
    detail = f"{wrong:,} ends inside an episode, or missing at its last step"
    draft.check("ends_bound_episodes", not wrong, detail, blocking=True)
    draft.check("reads_back", True, f"all frames and arrays of {source.num_episodes} episodes read back equal")


def _jowa_h5(path: Path, game: str, aside: Path) -> "TrajectoryReader":
    from pipelines.episodes.jowa_h5 import JowaTrajectories

    source = JowaTrajectories(path, game)
    source.require_sums()
    return source


def _zarr(path: Path, game: str, aside: Path) -> "TrajectoryReader":
    from pipelines.episodes.zarr_trajectories import ZarrTrajectories

    return ZarrTrajectories(path)


def _webdataset(path: Path, game: str, aside: Path) -> "TrajectoryReader":
    from pipelines.batches.shard_episodes import ShardEpisodes
    from pipelines.batches.shards import ShardSet

    export = ShardSet(path)
    require_game(path, export.game, game)
    with track(f"Gather episodes of {game}", 2 * len(export), "segments") as advance:
        return ShardEpisodes(export, aside, advance)


def _own(path: Path, game: str, aside: Path) -> "TrajectoryReader":
    from pipelines.episodes.own_trajectories import OwnTrajectories

    return OwnTrajectories(path, game)


def _recorded(path: Path, game: str, aside: Path) -> "TrajectoryReader":
    from pipelines.episodes import episode_files, minari_sets, recordings

    kind = minari_sets.MinariEpisodes if minari_sets.is_there(path) else episode_files.EpisodeFiles
    return recordings.RecordedEpisodes(kind(path, game))


def _asked(module: str) -> Callable[[Path], bool]:
    """Whether files are there is asked of the module that reads them, which is imported then."""
    return lambda path: importlib.import_module(f"pipelines.episodes.{module}").is_there(path)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(HDF5))


@dataclass(frozen=True)
class Layout:
    """One kind of files: how it is known, and who reads a game's episodes from it.

    `read(path, game, aside)` may fill the file `aside`. Raises UsageError for another game's, WorldlineError for what
    nobody writes so.
    """

    is_there: Callable[[Path], bool]
    read: Callable[[Path, str, Path], "TrajectoryReader"]


HOLD_NUMBERS = ("trajectories", "zarr")  # formats in which an action may be numbers
FORMATS = {  # the first that is there counts
    "webdataset": Layout(lambda path: (path / "shards.json").is_file(), _webdataset),
    "zarr": Layout(lambda path: (path / "zarr.json").is_file(), _zarr),
    "minari": Layout(_asked("minari_sets"), _recorded),
    "trajectories": Layout(_asked("own_trajectories"), _own),
    "episodes": Layout(_asked("episode_files"), _recorded),
    "jowa-h5": Layout(lambda path: path.is_file() and _start(path) == HDF5, _jowa_h5),
}


def _origin(source: "TrajectoryReader | ShardSet") -> dict[str, Any]:
    """What the files say of themselves: what an export came from, or which data set was recorded and how."""
    found = getattr(source, "lineage", {})
    return {f"exported_{name}": found[name] for name in ORIGIN if name in found} | getattr(source, "facts", {})


def _write(source: "TrajectoryReader", draft: Draft) -> int:
    """Pack all that a reader gives into a trajectory file, and read it back; its size in bytes.

    Raises WorldlineError for actions that the game does not have, and for a file that reads back differently.
    """
    import numpy as np

    from pipelines.environments.actions import action_names
    from pipelines.episodes.trajectories import CHUNK, FILE_NAME, FLAT, Trajectories, TrajectoryWriter, pack

    total, names, numbers = len(source), action_names(source.game), sum(source.actions.shape[1:])
    if not numbers and (most := int(source.actions.max())) >= len(names):
        raise WorldlineError(
            f"Action {most} is none of {source.game}'s {len(names)}: its own are numbered 0 to {len(names) - 1}; was "
            "it recorded with another action set?"
        )
    rows = getattr(source, "source_rows", lambda start, stop: np.full((stop - start, 3), -1, np.int32))
    path, chunk = draft.path(FILE_NAME), min(CHUNK, total)
    lengths = np.diff(source.episode_starts).tolist()
    blocks = [(start, min(start + BLOCK, total)) for start in range(0, total, BLOCK)]
    seen: list[bytes] = []  # a source may take long to make its frames: none is asked for twice
    with (
        track(f"Import frames of {source.game}", 2 * total, "frames") as advance,
        TrajectoryWriter(path, source.game, names, lengths, source.frame_shape, numbers) as writer,
    ):
        for name in FLAT:
            writer.write(name, 0, getattr(source, name))
        for start, stop in blocks:
            writer.write("source_rows", start, rows(start, stop))
            frames = np.zeros((-(-(stop - start) // chunk) * chunk, *source.frame_shape), np.uint8)
            frames[: stop - start] = source.frames(start, stop)
            seen.append(hashlib.sha256(frames[: stop - start].data).digest())
            for first in range(0, len(frames), chunk):
                writer.write_chunk((start + first) // chunk, pack(frames[first : first + chunk]))
            advance(stop - start)
        draft.part("frames", digest=writer.frames_sha256())
        writer.close()
        written = Trajectories(path)
        same = all(np.array_equal(getattr(source, name), getattr(written, name)) for name in ("episode_starts", *FLAT))
        for (start, stop), digest in zip(blocks, seen, strict=True):
            same = same and hashlib.sha256(written.frames(start, stop).data).digest() == digest
            advance(stop - start)
        written.close()
    source.close()
    if not same:
        raise WorldlineError(f"{path} reads back differently: check the disk and run the same command again")
    return path.stat().st_size


def _build_shards(config: ShardsConfig, draft: Draft, profile: Profile) -> None:
    from pipelines.batches.shards import INDEX, ShardSet

    if not config.url:
        raise config.absent(f", cut as the recipe's segment says ({config.cut}),", ", or set segment as they are cut")
    export = ShardSet(config.url, profile)
    found = hashlib.sha256(export.raw).hexdigest()
    require_game(export.url, export.game, config.game)
    if found != config.sha256:
        raise UsageError(f"{export.url}/{INDEX} has sha256 {found}, not {config.sha256}: import it as another")
    contents = export.contents
    cut = replace(config, length=contents.cut.length, stride=contents.cut.stride, padding=contents.cut.padding).cut
    if cut != config.cut:
        raise UsageError(f"{export.url} was cut with {cut}, the recipe's segment says {config.cut}: set segment so")
    export.require_shards()
    draft.path(INDEX).write_bytes(export.raw)
    size = sum(shard.bytes for shard in export.shards)
    draft.roots.append(
        {"url": export.url, "sha256": found, "shards": len(export.shards), "bytes": size, **_origin(export)}
    )
    draft.counts |= {
        "segments": len(export),
        "episodes": contents.episodes,
        "transitions": int(contents.cut.episode_starts[-1]),
    }
    draft.metrics |= {"frame": list(export.frame_shape), "rewards": "clipped" if contents.clipped else "raw"}
