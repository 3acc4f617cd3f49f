"""What a bucket holds of one agent: names, sizes and checksums, which cost no data. The root of every lineage.

Works on any fsspec URL; the bucket's root is the folder that contains `{Game}/{agent}/replay_logs/`.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec

from pipelines.errors import UsageError, WorldlineError
from pipelines.replay.layout import ALL_KINDS, LogName, file_name, log_folder, parse_name
from pipelines.store.spec import canonical_json


@dataclass(frozen=True)
class RemoteObject:
    """One log file. `name` is relative to the bucket's root; `version` is what changes when the object does.

    crc32c is eight hex digits, or None where the store publishes none. `version` is the generation or etag of an
    object store, the modification time in seconds of a local file.
    """

    url: str
    name: str
    bytes: int
    crc32c: str | None
    version: str | None

    @property
    def log(self) -> LogName:
        """Checkpoint n and kind, as the name says."""
        parsed = parse_name(PurePosixPath(self.name).name)
        if parsed is None:
            raise ValueError(f"{self.name} is no log file name")
        return parsed


def list_objects(root_url: str, game: str, agent: int) -> list[RemoteObject]:
    """All log files of one agent, by checkpoint and kind.

    Raises UsageError for a URL of no known kind, WorldlineError when there are none or a checkpoint lacks a kind.
    """
    root = root_url.rstrip("/")
    folder = log_folder(game, agent)
    try:
        filesystem, path = fsspec.core.url_to_fs(f"{root}/{folder}")
    except (ValueError, ImportError) as error:
        raise UsageError(f"'{root_url}' is no bucket URL ({error}): write gs://..., s3://... or file:///...") from error
    try:
        entries = filesystem.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WorldlineError(f"{root}/{folder} does not exist: check the bucket URL, game and agent") from error
    except PermissionError as error:
        raise WorldlineError(f"{root}/{folder} cannot be listed: allow reading that folder") from error
    objects = [_remote(root, folder, entry) for entry in entries if parse_name(_last(entry)) is not None]
    if not objects:
        raise WorldlineError(f"{root}/{folder} holds no replay log: check the bucket URL, game and agent")
    objects.sort(key=lambda item: (item.log.checkpoint, ALL_KINDS.index(item.log.kind)))
    _require_all_kinds(objects, f"{root}/{folder}")
    return objects


def digest(objects: Iterable[RemoteObject]) -> str:
    """sha256 over names, sizes, checksums and versions: equal digests mean an unchanged bucket folder."""
    rows = [{key: value for key, value in asdict(item).items() if key != "url"} for item in objects]
    return hashlib.sha256(canonical_json(sorted(rows, key=lambda row: row["name"])).encode()).hexdigest()


def _remote(root: str, folder: str, entry: dict[str, Any]) -> RemoteObject:
    name = f"{folder}/{_last(entry)}"
    version = next((entry[key] for key in ("generation", "ETag", "etag", "mtime") if entry.get(key)), None)
    return RemoteObject(
        url=f"{root}/{name}",
        name=name,
        bytes=int(entry["size"]),
        crc32c=_hex_crc32c(entry.get("crc32c")),
        version=None if version is None else str(version).strip('"'),
    )


def _require_all_kinds(objects: list[RemoteObject], where: str) -> None:
    present = {(item.log.checkpoint, item.log.kind) for item in objects}
    for checkpoint in sorted({checkpoint for checkpoint, _ in present}):
        for kind in ALL_KINDS:
            if (checkpoint, kind) not in present:
                raise WorldlineError(
                    f"{where}/{file_name(kind, checkpoint)} is missing: checkpoint {checkpoint} needs all of "
                    f"{', '.join(ALL_KINDS)}; fetch that file again or remove the checkpoint's other files"
                )


def _hex_crc32c(published: str | None) -> str | None:
    """Google publishes base64 of four bytes, big end first; None for anything else."""
    if not published:
        return None
    try:
        raw = base64.b64decode(published, validate=True)
    except binascii.Error:
        return None
    return raw.hex() if len(raw) == 4 else None


def _last(entry: dict[str, Any]) -> str:
    return PurePosixPath(entry["name"]).name
