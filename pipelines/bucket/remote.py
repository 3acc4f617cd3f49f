"""One object of a bucket as its listing shows it: size, checksums and version, which cost no data."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MD5_ETAG = re.compile(r"[0-9a-f]{32}")  # what S3 gives objects that were uploaded in one piece


@dataclass(frozen=True)
class BucketObject:
    """`name` is relative to the bucket's root; `version` is what changes when the object does.

    crc32c is eight hex digits and md5 thirty-two, or None where the store publishes none. `version` is the generation
    or etag of an object store, the modification time in seconds of a local file.
    """

    url: str
    name: str
    bytes: int
    crc32c: str | None
    version: str | None
    md5: str | None = None

    def same_as(self, other: "BucketObject") -> bool:
        """Whether everything that is known of both agrees."""
        pairs = ((self.version, other.version), (self.crc32c, other.crc32c), (self.md5, other.md5))
        return self.bytes == other.bytes and all(ours == theirs for ours, theirs in pairs if ours and theirs)


def described(entry: Mapping[str, Any]) -> dict[str, Any]:
    """bytes, crc32c, version and md5 from what any fsspec file system says of a file."""
    version = next((entry[key] for key in ("generation", "ETag", "etag", "mtime") if entry.get(key)), None)
    version = None if version is None else str(version).strip('"')
    md5 = _hex(entry.get("md5Hash"), 16)
    if md5 is None and "ETag" in entry and version and MD5_ETAG.fullmatch(version):
        md5 = version
    return {"bytes": int(entry["size"]), "crc32c": _hex(entry.get("crc32c"), 4), "version": version, "md5": md5}


def _hex(published: object, size: int) -> str | None:
    """Google publishes checksums as base64, big end first; None for anything else."""
    if not isinstance(published, str) or not published:
        return None
    try:
        raw = base64.b64decode(published, validate=True)
    except binascii.Error:
        return None
    return raw.hex() if len(raw) == size else None
