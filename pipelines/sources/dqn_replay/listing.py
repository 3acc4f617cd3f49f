"""Lists what a bucket in DQN-Replay's layout holds of one agent. Names, sizes and checksums are the root of a lineage.

`{Game}/{agent}/replay_logs/` holds, for each log n = 0, 1, ...: `$store$_{kind}_ckpt.{n}.gz` for the four kinds and the
two small side files `add_count_ckpt.{n}.gz` and `invalid_range_ckpt.{n}.gz`. Every file is a gzip'd `.npy`.
Works on any fsspec URL; the bucket's root is the folder that contains `{Game}/{agent}/replay_logs/`.
Source: Agarwal et al. 2020 (arXiv 1907.04543) and Dopamine's circular replay buffer of 2019.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.download import download
from pipelines.errors import WorldlineError
from pipelines.store.stage_config import canonical_json

KINDS = ("observation", "action", "reward", "terminal")

SIDE_KINDS = ("add_count", "invalid_range")

ALL_KINDS = KINDS + SIDE_KINDS

AGENTS = (1, 2, 3, 4, 5)  # what the public bucket holds; our own collections count from 1 too

_NAME = re.compile(rf"(?:\$store\$_({'|'.join(KINDS)})|({'|'.join(SIDE_KINDS)}))_ckpt\.(0|[1-9][0-9]*)\.gz", re.ASCII)


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


@dataclass(frozen=True)
class RemoteObject(BucketObject):
    """One log file."""

    @property
    def log(self) -> LogName:
        """Checkpoint n and kind, as the name says. Raises ValueError for a name of another file."""
        parsed = parse_name(PurePosixPath(self.name).name)
        if parsed is None:
            raise ValueError(f"{self.name} is no log file name")
        return parsed


def list_objects(bucket: Bucket | str, game: str, agent: int) -> list[RemoteObject]:
    """All log files of one agent, by checkpoint and kind; `bucket` may be the root URL of one without options.

    Raises UsageError for a URL of no known kind, WorldlineError when there are no logs or a checkpoint lacks a kind.
    """
    bucket = Bucket.of(bucket) if isinstance(bucket, str) else bucket
    folder = log_folder(game, agent)
    where = f"{bucket.root}/{folder}"
    found = [item for item in bucket.list(folder) if parse_name(PurePosixPath(item.name).name) is not None]
    if not found:
        raise WorldlineError(f"{where} holds no replay log: check the bucket URL, game and agent")
    objects = [RemoteObject(**asdict(item)) for item in found]
    objects.sort(key=lambda item: (item.log.checkpoint, ALL_KINDS.index(item.log.kind)))
    _require_all_kinds(objects, where)
    return objects


def mirror_small_arrays(bucket: Bucket, objects: Sequence[RemoteObject]) -> None:
    """Copy all but the observation files into the bucket's mirror, if it has one: several at a time, and kept.

    Raises ObjectReplaced when the bucket holds another version by now.
    """
    small = [item for item in objects if item.log.kind != "observation"]
    if bucket.mirror is not None and small:
        download(bucket, small, f"Mirror small arrays {small[0].name.rpartition('/')[0]}", pinned=True)


def digest(objects: Iterable[RemoteObject]) -> str:
    """sha256 of names, sizes, checksums and versions: while it stays, the bucket's folder is unchanged."""
    rows = [plain(item) for item in objects]
    return hashlib.sha256(canonical_json(sorted(rows, key=lambda row: row["name"])).encode()).hexdigest()


def plain(item: BucketObject) -> dict[str, Any]:
    """An object without its URL, as JSON keeps it, with `md5` only where the store publishes one."""
    return {key: value for key, value in asdict(item).items() if key != "url" and (key != "md5" or value)}


def _require_all_kinds(objects: list[RemoteObject], where: str) -> None:
    present = {(item.log.checkpoint, item.log.kind) for item in objects}
    for checkpoint in sorted({checkpoint for checkpoint, _ in present}):
        for kind in ALL_KINDS:
            if (checkpoint, kind) not in present:
                raise WorldlineError(
                    f"{where}/{file_name(kind, checkpoint)} is missing: checkpoint {checkpoint} needs all of "
                    f"{', '.join(ALL_KINDS)}; fetch that file again or remove the checkpoint's other files"
                )
