"""A bucket that is written to: files, verified by the checksum that the bucket publishes, and objects on a condition.

A file is sent part by part, each tried again alone. An object that is written on a condition is replaced only where it
still is the version that its writer knows, or is not there: of two writers at once one succeeds, and the other is told.
"""

import hashlib
import itertools
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import google_crc32c

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import Absent, BucketError, DamagedInTransit, Refused, retry_if_damaged, status_of

PART = 16 << 20  # bytes; Google takes multiples of 256 KiB
MOST_PARTS = 9_000  # S3 takes 10,000
WORKERS = 6
OUTRUN = (409, 412)  # another version is there, or is on its way
PROBES = ".probe"


@dataclass(frozen=True)
class Written:
    """An object as a listing has it: its size, and when it was written by the bucket's clock (seconds of time())."""

    bytes: int
    at: float


@dataclass(frozen=True)
class WritableBucket(Bucket):
    """See the head of this file. Nothing is made before it is asked for."""

    where = "check artefact_root in the storage profile"

    def below(self, folder: str) -> dict[str, BucketObject]:
        """By its name below `folder`, every object there, however deep; none where there is no such folder."""
        entries = self._tree(folder)
        return {name: self._object(f"{folder}/{name}", entry) for name, entry in entries.items()}

    def written(self, folder: str) -> dict[str, Written]:
        """The same with the times of writing."""
        return {name: Written(int(entry["size"]), _time(entry)) for name, entry in self._tree(folder).items()}

    def find(self, name: str) -> BucketObject | None:
        """What the bucket says of one object now; None where there is none."""
        try:
            return self.stat(name)
        except Absent:
            return None

    def read(self, item: BucketObject) -> bytes:
        """A small object, verified. Raises BucketError."""

        def once() -> bytes:
            with self.open(item) as reader:
                raw = reader.read()
                reader.verify()
            return raw or b""

        return retry_if_damaged(once)

    def replace(self, name: str, content: bytes, former: BucketObject | None) -> BucketObject | None:
        """Write an object where `former` stands now, or where nothing does (None). None where another stands by now.

        A write that was tried again because its answer was lost has succeeded if these bytes stand there.
        """
        client, url = self._client, f"{self.root}/{name}"
        version = "" if former is None else former.version
        try:
            entry = self._request(url, lambda: client.put(f"{client.path}/{name}", content, version), verb="written")
        except BucketError as error:
            gone = isinstance(error, Absent) and former is not None
            if not gone and not _outrun(error.__cause__):
                raise
        else:
            return self._object(name, entry)
        stands = self.find(name)
        if stands is None or stands.bytes != len(content):
            return None
        return stands if self.read_range(stands, 0, stands.bytes) == content else None

    def put(self, name: str, content: bytes) -> BucketObject:
        """Write an object, whatever stands there."""
        client, url = self._client, f"{self.root}/{name}"
        entry = self._request(url, lambda: client.put(f"{client.path}/{name}", content, None), verb="written")
        return self._object(name, entry)

    def upload(self, file: Path, name: str) -> BucketObject:
        """Copy a file into the bucket and compare the checksum that the bucket publishes with the file's.

        Raises DamagedInTransit where it differs twice.
        """
        return retry_if_damaged(partial(self._upload, file, name))

    def remove(self, name: str, version: str | None = None) -> bool:
        """Remove an object, where it is of that version if one is given; whether it was. What is gone is removed."""
        client, url = self._client, f"{self.root}/{name}"
        try:
            self._request(url, lambda: client.delete(f"{client.path}/{name}", version), verb="removed")
        except Absent:
            return True
        except BucketError as error:
            if not _outrun(error.__cause__):
                raise
            return False
        return True

    def remove_all(self, folder: str, names: Iterable[str] | None = None) -> None:
        """Remove all objects below `folder`, or only those of these names below it, several at a time."""
        chosen = self.below(folder) if names is None else names
        with ThreadPoolExecutor(WORKERS, "remove") as pool:
            for _ in pool.map(self.remove, [f"{folder}/{name}" for name in chosen]):
                pass

    def require_rights(self) -> float:
        """Write, replace and remove a small object. Returns how far the bucket's clock is ahead of ours, in seconds.

        Raises Refused where one of these is not allowed, and BucketError where the bucket heeds no conditions: two
        writers at once would end with a mixture of both.
        """
        name = f"{PROBES}/{uuid.uuid4().hex}"
        try:
            first = self.replace(name, b"first", None)
            told = first is not None and self.replace(name, b"other", None) is None
            told = told and self.replace(name, b"again", first) is not None
            at = _time(self._request(self.root, lambda: self._client.filesystem.info(f"{self._client.path}/{name}")))
            self.remove(name)
        except (Refused, Absent) as error:
            raise Refused(
                f"The bucket {self.root} does not let this account store artefacts: {error} (it must create, replace "
                "and delete objects)"
            ) from error
        if not told:
            raise BucketError(
                f"The bucket {self.root} heeds no conditions on writes (ifGenerationMatch, If-None-Match, If-Match): "
                "two writers would mix their artefacts; set artefact_root to a bucket of GCS or S3, or to a folder"
            )
        return at - time.time()

    def _upload(self, file: Path, name: str) -> BucketObject:
        client, url, size = self._client, f"{self.root}/{name}", file.stat().st_size
        sums, path = _Sums(), f"{self._client.path}/{name}"
        parts = sums.over(_parts(file, max(PART, -(-size // MOST_PARTS // PART) * PART)))
        if size <= PART:
            content = b"".join(parts)
            entry = self._request(url, lambda: client.put(path, content, None), verb="written")
        else:
            tried = partial(self._request, url, verb="written")
            entry = client.upload(path, size, parts, tried)
        made = self._object(name, entry)
        if (fault := sums.fault(made)) and (made.crc32c or client.md5_is_etag(path)):
            raise DamagedInTransit(f"{url} {fault}: check the network and run the same command again")
        return made

    def _tree(self, folder: str) -> dict[str, dict]:
        path = f"{self._client.path}/{folder}"
        found = self._request(f"{self.root}/{folder}", lambda: self._client.filesystem.find(path, detail=True))
        return {name.removeprefix(f"{path}/"): entry for name, entry in found.items() if name.startswith(f"{path}/")}


class _Sums:
    """The checksums of a file that is sent, for whichever of them the bucket publishes."""

    def __init__(self) -> None:
        self.bytes = 0
        self.crc32c = google_crc32c.Checksum()
        self.parts: list[bytes] = []

    def over(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """The same parts, counted."""
        for part in parts:
            self.bytes += len(part)
            self.crc32c.update(part)
            self.parts.append(hashlib.md5(part, usedforsecurity=False).digest())
            yield part

    def fault(self, made: BucketObject) -> str:
        """How what the bucket says it has differs from what was sent; "" where it does not."""
        crc32c = self.crc32c.hexdigest().decode()
        if made.bytes != self.bytes or (made.crc32c and made.crc32c != crc32c):
            return f"came as {made.bytes:,} bytes of crc32c {made.crc32c}, sent were {self.bytes:,} of {crc32c}"
        if made.crc32c or not re.fullmatch(r"[0-9a-f]{32}(-\d+)?", made.version or ""):
            return ""
        whole = self.parts[0].hex() if len(self.parts) == 1 else ""
        joined = hashlib.md5(b"".join(self.parts), usedforsecurity=False).hexdigest()
        sent = f"{joined}-{len(self.parts)}" if "-" in str(made.version) else whole
        return "" if made.version == sent else f"came with etag {made.version}, sent was {sent}"


def _parts(file: Path, size: int) -> Iterator[bytes]:
    """The bytes of a file, `size` at a time; one empty part of an empty file."""
    with file.open("rb") as opened:
        for number in itertools.count():
            part = opened.read(size)
            if not part and number:
                return
            yield part


def _outrun(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, FileExistsError) or status_of(error) in OUTRUN)


def _time(entry: dict) -> float:
    """When an object was written, in seconds of time()."""
    found = entry.get("mtime") or entry.get("LastModified")
    if isinstance(found, datetime):
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    raise BucketError(f"{entry.get('name')}: the bucket does not say when it was written ({found!r})")
