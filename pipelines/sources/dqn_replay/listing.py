"""Lists what a bucket in DQN-Replay's layout holds of one agent. Names, sizes and checksums are the root of a lineage.

`{Game}/{agent}/replay_logs/` holds, for each log n = 0, 1, ...: `$store$_{kind}_ckpt.{n}.gz` for the four kinds and the
two small side files `add_count_ckpt.{n}.gz` and `invalid_range_ckpt.{n}.gz`. Every file is a gzip'd `.npy`. Many
downloads, JOWA's own among them, left the side files out; they can be read as JOWA reads them. So can the cache of
d4rl-atari (~/.d4rl/datasets), which holds the same four files of log n as `{Game}/{agent}/{n}/{kind}.gz`.
Works on any fsspec URL; the bucket's root is the folder that contains `{Game}/{agent}/replay_logs/`.
Source: Agarwal et al. 2020 (arXiv 1907.04543) and Dopamine's circular replay buffer of 2019.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, product
from pathlib import PurePosixPath

from pipelines.bucket.bucket import WHERE, Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.download import download
from pipelines.bucket.retry import Absent, BucketError, Refused
from pipelines.errors import WorldlineError
from pipelines.progress import say

KINDS = ("observation", "action", "reward", "terminal")

SIDE_KINDS = ("add_count", "invalid_range")

ALL_KINDS = KINDS + SIDE_KINDS

AGENTS = (1, 2, 3, 4, 5)  # what the public bucket holds; our own collections count from 1 too

_NAME = re.compile(rf"(?:\$store\$_({'|'.join(KINDS)})|({'|'.join(SIDE_KINDS)}))_ckpt\.(0|[1-9][0-9]*)\.gz", re.ASCII)

_LIKE = re.compile(rf"({'|'.join(ALL_KINDS)})s?[^a-z0-9]*ckpt[^a-z0-9]*0*([0-9]+)", re.ASCII | re.IGNORECASE)

SHOWN = 4  # names in a line

RUN_LOGS = 51  # of a whole run; some lack the last one

RUN_ROWS = 1_000_000  # in one log of the published runs

PUBLIC = "gs://atari-replay-datasets"

ELSEWHERE = (
    "read another source or a copy (--storage rlu, or replay_root of a storage profile), a download (worldline import "
    "trajectories), or play here (worldline collect)"
)


_CACHED = re.compile(rf"(?:.*/)?(0|[1-9][0-9]*)/({'|'.join(KINDS)})\.gz", re.ASCII)


@dataclass(frozen=True, order=True)
class LogName:
    """One file of one log: log number `checkpoint` (the n above), then what it holds."""

    checkpoint: int
    kind: str

    def __str__(self) -> str:
        return file_name(self.kind, self.checkpoint)


def log_folder(game: str, agent: int) -> str:
    """Folder of one agent's logs, relative to the bucket's root, without a slash at its end."""
    return f"{game}/{agent}/replay_logs"


def file_name(kind: str, checkpoint: int) -> str:
    """Name of one file. Raises ValueError for a kind outside ALL_KINDS or a negative checkpoint."""
    if kind not in ALL_KINDS or checkpoint < 0:
        raise ValueError(f"No log file holds '{kind}' of checkpoint {checkpoint}: kinds are {', '.join(ALL_KINDS)}")
    return f"{'$store$_' if kind in KINDS else ''}{kind}_ckpt.{checkpoint}.gz"


def parse_name(name: str) -> LogName | None:
    """Read a file name (without folders) back. Buckets hold other files, too: for those the result is None."""
    match = _NAME.fullmatch(name)
    return LogName(int(match[3]), match[1] or match[2]) if match else None


def log_of(name: str) -> LogName | None:
    """Which file of which log an object is, by its name relative to the bucket's root; None for other files."""
    cached = _CACHED.fullmatch(name)
    return LogName(int(cached[1]), cached[2]) if cached else parse_name(PurePosixPath(name).name)


@dataclass(frozen=True)
class RemoteObject(BucketObject):
    """One log file."""

    @property
    def log(self) -> LogName:
        """Checkpoint n and kind, as the name says. Raises ValueError for a name of another file."""
        parsed = log_of(self.name)
        if parsed is None:
            raise ValueError(f"{self.name} is no log file name")
        return parsed


def list_objects(bucket: Bucket | str, game: str, agent: int, needed: Sequence[str] = ALL_KINDS) -> list[RemoteObject]:
    """All log files of one agent, by checkpoint and kind; `bucket` may be the root URL of one without options.

    needed: the kinds that every checkpoint must have. Where listing is refused the objects are asked for by name.
    Raises UsageError for a URL of no known kind, WorldlineError when there are no logs or a checkpoint lacks a kind.
    """
    bucket = Bucket.of(bucket) if isinstance(bucket, str) else bucket
    folder = log_folder(game, agent)
    where = f"{bucket.root}/{folder}"
    try:
        listed = bucket.list(folder)
    except Absent as error:
        listed = _in_cache(bucket, f"{game}/{agent}")
        if not listed:
            repair = f"{WHERE}; {_closed(bucket)}" if _closed(bucket) else WHERE
            raise WorldlineError(f"{where} does not exist{_nearest(bucket, folder)}: {repair}") from error
    except Refused as error:
        if bucket.is_local:
            raise
        listed = _by_name(bucket, folder)
        if not listed:
            more = _closed(bucket) or ELSEWHERE
            raise WorldlineError(f"{error}; no log there can be had by its name either: {more}") from error
        say(f"{where} may not be listed: {len(listed)} objects were found by their names")
    found = [item for item in listed if log_of(item.name) is not None]
    if not found:
        there = _instead(bucket.contents(folder)) or WHERE
        raise WorldlineError(f"{where} holds no replay log: {there}")
    objects = [RemoteObject(**asdict(item)) for item in found]
    objects.sort(key=lambda item: (item.log.checkpoint, ALL_KINDS.index(item.log.kind)))
    _require_kinds(objects, needed, bucket, folder)
    return objects


def _in_cache(bucket: Bucket, folder: str) -> list[BucketObject]:
    """The files of d4rl-atari's cache, a folder for each log; none where there is no such folder."""
    numbers = [name for name, kind in _contents(bucket, folder).items() if kind == "folder" and name.isdecimal()]
    found = [item for number in numbers for item in bucket.list(f"{folder}/{number}")]
    return [item for item in found if log_of(item.name) is not None]


def mirror_small_arrays(bucket: Bucket, objects: Sequence[RemoteObject]) -> None:
    """Copy all but the observation files into the bucket's mirror, if it has one: several at a time, and kept.

    Raises ObjectReplaced when the bucket holds another version by now.
    """
    small = [item for item in objects if item.log.kind != "observation"]
    if bucket.mirror is not None and small:
        download(bucket, small, f"Mirror small arrays {small[0].name.rpartition('/')[0]}", pinned=True)


def _closed(bucket: Bucket) -> str:
    """What to say where the public bucket fails; empty for any other."""
    if not f"{bucket.root}/".startswith(f"{PUBLIC}/"):
        return ""
    return f"this public bucket has answered so to many since 2025, {ELSEWHERE}"


def _by_name(bucket: Bucket, folder: str) -> list[BucketObject]:
    """The log files of a folder that may not be listed: every name that it can hold is asked for.

    Logs are asked for in blocks of as many as a whole run has, until one ends without its last log.
    """

    def asked(logs: Iterable[int]) -> Sequence[BucketObject | None]:
        return bucket.ask(f"{folder}/{file_name(kind, log)}" for log, kind in product(logs, ALL_KINDS))

    found: list[BucketObject] = []
    if not any(asked((0, 1))):
        return []
    for first in count(0, RUN_LOGS):
        answers = asked(range(first, first + RUN_LOGS))
        found += [each for each in answers if each is not None]
        if not any(answers[-len(ALL_KINDS) :]):
            return found
    raise AssertionError("unreachable: blocks end with the first that has no last log")


def _require_kinds(objects: list[RemoteObject], needed: Sequence[str], bucket: Bucket, folder: str) -> None:
    present = {(item.log.checkpoint, item.log.kind) for item in objects}
    checkpoints = sorted({checkpoint for checkpoint, _ in present})
    for checkpoint, kind in product(checkpoints, needed):
        if (checkpoint, kind) in present:
            continue
        where = f"{bucket.root}/{folder}/{file_name(kind, checkpoint)}"
        if there := _instead(_contents(bucket, folder), LogName(checkpoint, kind)):
            raise WorldlineError(f"{where} is no file that can be read: {there}")
        if kind not in SIDE_KINDS:
            raise WorldlineError(
                f"{where} is missing: checkpoint {checkpoint} needs all of {', '.join(needed)}; fetch that file again "
                "or remove the checkpoint's other files"
            )
        lacking = sum(1 for each in checkpoints if (each, kind) not in present)
        raise WorldlineError(
            f"{where} is missing, and {kind} of {lacking} of {len(checkpoints)} logs in all, so nothing tells which "
            "rows of a log are new: fetch those small files too, or read each log alone as JOWA does "
            "(--set fetch.compat=jowa)"
        )


def _contents(bucket: Bucket, folder: str) -> Mapping[str, str]:
    """What a folder holds, by name; nothing where it is not there or may not be listed."""
    try:
        return bucket.contents(folder)
    except (Absent, Refused):
        return {}


def _instead(contents: Mapping[str, str], wanted: LogName | None = None) -> str:
    """What lies in a folder where log files (or the `wanted` one) are expected, with the repair; empty if nothing does.

    It may be no file, or have the name that some downloader, shell or case-blind disk made of the right one.
    """
    for name, kind in contents.items():
        like = _LIKE.search(name)
        meant = LogName(int(like[2]), like[1].lower()) if like else None
        if meant is None or (wanted is not None and meant != wanted):
            continue
        if name == str(meant) and kind != "file":
            return f"a {kind} has that name; put the file itself there"
        if name != str(meant):
            return f"there is '{name}'; if that is the whole file, rename it to '{meant}'"
    return ""


def _nearest(bucket: Bucket, folder: str) -> str:
    """What the bucket holds where the way to an absent folder ends, as a clause; empty when that cannot be said."""
    way = PurePosixPath(folder)
    for place in (way, *way.parents[:-1]):
        above = str(place.parent) if place.parent.name else ""
        try:
            names = sorted(bucket.contents(above))
        except Absent:
            continue
        except BucketError:
            return ""
        alike = [name for name in names if name.lower() == place.name.lower()] or names
        more = ", ..." if len(alike) > SHOWN else ""
        return f" ({'/'.join(filter(None, (bucket.root, above)))} holds {', '.join(alike[:SHOWN]) or 'nothing'}{more})"
    return f" (nor does {bucket.root})"
