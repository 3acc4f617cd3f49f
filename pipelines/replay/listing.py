"""What a bucket holds of one agent: names, sizes and checksums, which cost no data. The root of every lineage.

Works on any fsspec URL; the bucket's root is the folder that contains `{Game}/{agent}/replay_logs/`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.remote import BucketObject
from pipelines.errors import WorldlineError
from pipelines.replay.layout import ALL_KINDS, LogName, file_name, log_folder, parse_name
from pipelines.store.spec import canonical_json


@dataclass(frozen=True)
class RemoteObject(BucketObject):
    """One log file."""

    @property
    def log(self) -> LogName:
        """Checkpoint n and kind, as the name says."""
        parsed = parse_name(PurePosixPath(self.name).name)
        if parsed is None:
            raise ValueError(f"{self.name} is no log file name")
        return parsed


def list_objects(bucket: Bucket | str, game: str, agent: int) -> list[RemoteObject]:
    """All log files of one agent, by checkpoint and kind; `bucket` may be the root URL of one without options.

    Raises UsageError for a URL of no known kind, WorldlineError when there are none or a checkpoint lacks a kind.
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


def digest(objects: Iterable[RemoteObject]) -> str:
    """sha256 over names, sizes, checksums and versions: equal digests mean an unchanged bucket folder."""
    rows = [plain(item) for item in objects]
    return hashlib.sha256(canonical_json(sorted(rows, key=lambda row: row["name"])).encode()).hexdigest()


def plain(item: BucketObject) -> dict[str, Any]:
    """An object without its URL, as JSON keeps it; `md5` only where the store publishes one."""
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
