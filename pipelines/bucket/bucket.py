"""A bucket: any fsspec URL whose objects are listed, and read by ranges that are pinned to one version.

Every request is retried (retry.py), every error is one line. Local files take the same road, without the network.
Use: `bucket = Bucket.of(url, store.profile)`, then `bucket.list(folder)`, `bucket.open(item)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pipelines.bucket.clients import LOCAL, Client, connect, protocol
from pipelines.bucket.mirror import Mirror
from pipelines.bucket.reader import Chunks, Reader, file_chunks, range_chunks
from pipelines.bucket.remote import BucketObject, described, meter
from pipelines.bucket.retry import (
    GONE,
    BucketError,
    DamagedInTransit,
    ObjectReplaced,
    ShortRead,
    reason,
    retried,
    status_of,
)
from pipelines.errors import WorldlineError
from pipelines.store.profile import Profile

REPAIR = "list the bucket again and fetch that"

T = TypeVar("T")


@dataclass(frozen=True)
class Bucket:
    """`root` is a URL without a slash at its end. May be shared by threads, pickled, and used after a fork."""

    root: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    mirror: Mirror | None = None

    @classmethod
    def of(cls, url: str, profile: Profile | None = None, mirror: Mirror | None = None) -> "Bucket":
        """The bucket at `url`, opened with the profile's options unless it is a local folder.

        Raises UsageError for a URL of no known kind, a missing client, or wrong options.
        """
        remote = protocol(url) not in LOCAL
        bucket = cls(url.rstrip("/"), dict(profile.options) if profile and remote else {}, mirror if remote else None)
        _ = bucket._client
        return bucket

    @property
    def is_local(self) -> bool:
        """Whether its objects are files of this machine."""
        return protocol(self.root) in LOCAL

    @property
    def _client(self) -> Client:
        return connect(self.root, self.options)

    def list(self, folder: str) -> "list[BucketObject]":
        """The objects directly in `folder` (relative to the root), by name. Raises BucketError when it is not there."""
        client = self._client
        url = f"{self.root}/{folder}"
        entries = self._asked(url, lambda: client.filesystem.ls(f"{client.path}/{folder}", detail=True))
        files = [entry for entry in entries if entry.get("type") == "file"]
        return sorted((self._object(f"{folder}/{_last(entry)}", entry) for entry in files), key=lambda item: item.name)

    def stat(self, name: str) -> BucketObject:
        """What the bucket says of one object now. Raises BucketError when there is none."""
        client = self._client
        url = f"{self.root}/{name}"
        entry = self._asked(url, lambda: client.filesystem.info(f"{client.path}/{name}"))
        if entry.get("type") != "file":
            raise BucketError(f"{url} cannot be read (it is a folder): name an object")
        return self._object(name, entry)

    def read_range(
        self, item: BucketObject, start: int, stop: int, halted: Callable[[], bool] = lambda: False
    ) -> bytes:
        """Bytes start..stop-1 of the object, at most up to its end; once `halted` says so it is not tried again.

        Raises ObjectReplaced when it is another object by now.
        """
        stop = min(stop, item.bytes)
        if start >= stop:
            return b""
        client = self._client

        def read() -> bytes:
            with meter(self.root).reading(stop - start):
                data = client.read(f"{client.path}/{item.name}", start, stop, item.version if client.pins else None)
            if len(data) != stop - start:
                raise ShortRead(f"{len(data):,} bytes came where {stop - start:,} were asked for")
            return data

        return self._asked(item.url, read, item, halted)

    def open(self, item: BucketObject) -> Reader:
        """A raw stream of the whole object that counts and checksums what passes; its `verify` must be the last word.

        A copy in the mirror is read instead when there is one.
        """
        copy = self.mirror.find(item) if self.mirror else None
        if copy is None and self.is_local:
            copy = Path(f"{self._client.path}/{item.name}")
        if copy is None:
            chunks = range_chunks(lambda start, stop: self.read_range(item, start, stop), item.bytes)
        else:
            path = copy  # mypy does not see that it stays
            chunks = file_chunks(self._asked(item.url, lambda: path.open("rb")))
        return self.checked(item, chunks, mirrored=copy is not None and not self.is_local)

    def checked(self, item: BucketObject, chunks: Chunks, mirrored: bool = False) -> Reader:
        """A reader of `chunks`, which are said to be the object's bytes (`mirrored`: those of its copy)."""
        unproven = not (self.is_local or item.crc32c or item.md5)
        return Reader(item, chunks, lambda fault: self._settle(item, fault, mirrored), unproven)

    def rate(self) -> float | None:
        """Bytes per second that this bucket gave to this process; None when nothing was read yet."""
        return meter(self.root).rate()

    def has_proof(self, item: BucketObject) -> bool:
        """Whether later readers can tell without reading all of it now: by a checksum, or by a version that pins."""
        return bool(item.crc32c or item.md5 or (item.version and self._client.pins))

    def _object(self, name: str, entry: Mapping[str, Any]) -> BucketObject:
        return BucketObject(url=f"{self.root}/{name}", name=name, **described(entry))

    def _asked(
        self,
        what: str,
        action: Callable[[], T],
        item: BucketObject | None = None,
        halted: Callable[[], bool] = lambda: False,
    ) -> T:
        """`action()` with retries. An error that stays is one line; for a read of `item` it may be ObjectReplaced."""
        try:
            return retried(what, action, halted)
        except WorldlineError as error:
            if item is not None and isinstance(error.__cause__, ShortRead):
                self._require_same(item)
            raise
        except Exception as error:
            gone = isinstance(error, FileNotFoundError) or status_of(error) in GONE
            if item is not None and gone:
                self._require_same(item)
            raise _refusal(what, error) from error

    def _require_same(self, item: BucketObject) -> None:
        now = self.stat(item.name)
        if not now.same_as(item):
            raise ObjectReplaced(
                f"{item.url} was replaced: it has {now.bytes:,} bytes of version {now.version} by now, the object list "
                f"says {item.bytes:,} of {item.version}: {REPAIR}"
            )

    def _settle(self, item: BucketObject, fault: str | None, mirrored: bool) -> None:
        """Say whose fault it is that a reader got other bytes than listed; see Reader."""
        if fault is None:
            if not (mirrored or item.crc32c or item.md5 or self._client.pins):
                self._require_same(item)
            return
        if mirrored and self.mirror is not None:
            self.mirror.drop(item)
            raise DamagedInTransit(
                f"{item.url}: its copy in {self.mirror.folder} {fault} and was dropped: fetch it again"
            )
        self._require_same(item)
        if not item.crc32c and item.md5 and not self._client.md5_is_etag(f"{self._client.path}/{item.name}"):
            return
        error = WorldlineError if self.is_local else DamagedInTransit
        raise error(f"{item.url} {fault}: fetch that file again from its source")


def _refusal(url: str, error: Exception) -> BucketError:
    """One line for an error that no waiting mends."""
    status = status_of(error)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) or status == 404:
        return BucketError(f"{url} does not exist: check the bucket URL, game and agent, or list the bucket again")
    denied = "Forbidden" in str(error) or "Credentials" in type(error).__name__  # the latter: none were found
    if isinstance(error, PermissionError) or status in (401, 403) or denied:
        return BucketError(f"{url} cannot be read ({reason(error)}): allow reading it, or log in as the profile says")
    return BucketError(f"{url} cannot be read ({reason(error)}): check the storage profile and its options")


def _last(entry: Mapping[str, Any]) -> str:
    return PurePosixPath(entry["name"]).name
