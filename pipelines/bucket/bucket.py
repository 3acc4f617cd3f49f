"""A bucket: any fsspec URL whose objects are listed, and read by ranges that are pinned to one version.

Every request is retried (retry.py), and every error is one line. Local files are read through the same code.
Use: `bucket = Bucket.of(url, store.profile)`, then `bucket.list(folder)`, `bucket.open(item)`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self, TypeVar

from pipelines.bucket.bucket_object import (
    BucketObject,
    Chunks,
    Mirror,
    Reader,
    entry_fields,
    file_chunks,
    range_chunks,
    throughput,
)
from pipelines.bucket.clients import LOCAL, Client, connect, protocol
from pipelines.bucket.retry import (
    GONE,
    Absent,
    BucketError,
    DamagedInTransit,
    ObjectReplaced,
    Refused,
    ShortRead,
    reason,
    retry_if_damaged,
    status_of,
    with_retries,
)
from pipelines.errors import WorldlineError
from pipelines.store.profile import Profile

REPAIR = "list the bucket again and fetch that"
ALLOW = "its owner has to allow it, or log in as one who may (options of the storage profile)"

WHERE = "check the bucket URL, game and agent"

ASKED_AT_ONCE = 16  # requests for one object's size and checksum

T = TypeVar("T")

Item = TypeVar("Item", bound=BucketObject)


@dataclass(frozen=True)
class Bucket:
    """`root` is a URL without a slash at its end. A bucket may be shared by threads, pickled, and used after a fork."""

    root: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    mirror: Mirror | None = None
    where: ClassVar[str] = WHERE  # to look where something is not there

    @classmethod
    def of(cls, url: str, profile: Profile | None = None, mirror: Mirror | None = None) -> Self:
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
        """The objects directly in `folder` (relative to the root), by name; links count as what they lead to.

        Raises Absent when the folder is not there, BucketError when it is and cannot be listed.
        """
        files = [entry for entry in self._entries(folder) if entry.get("type") == "file"]
        return sorted((self._object(f"{folder}/{_last(entry)}", entry) for entry in files), key=lambda item: item.name)

    def contents(self, folder: str) -> dict[str, str]:
        """By name, what lies directly in `folder`, in words: a file, a folder or a dead link. Raises as `list`."""
        kinds = {"file": "file", "directory": "folder"}
        return {_last(entry): kinds.get(entry.get("type", ""), "dead link") for entry in self._entries(folder)}

    def stat(self, name: str) -> BucketObject:
        """What the bucket says of one object now. Raises BucketError when there is none."""
        client = self._client
        url = f"{self.root}/{name}"
        entry = self._request(url, lambda: client.filesystem.info(f"{client.path}/{name}"))
        if entry.get("type") != "file":
            raise BucketError(f"{url} cannot be read (it is a folder): name an object")
        return self._object(name, entry)

    def ask(self, names: Iterable[str]) -> Sequence[BucketObject | None]:
        """What the bucket says of each object now, several at a time; None for one that is absent or refused.

        Some buckets refuse what they do not have. Raises BucketError where one is there and cannot be read.
        """

        def asked(name: str) -> BucketObject | None:
            try:
                return self.stat(name)
            except (Absent, Refused):
                return None

        with ThreadPoolExecutor(ASKED_AT_ONCE, "by-name") as pool:
            return [*pool.map(asked, names)]

    def read_range(
        self, item: BucketObject, start: int, stop: int, halted: Callable[[], bool] = lambda: False
    ) -> bytes:
        """Bytes start..stop-1 of the object, at most up to its end. A failure is not retried once `halted()` is true.

        Raises ObjectReplaced when it is another object by now, BucketError when the bucket does not give the bytes.
        """
        stop = min(stop, item.bytes)
        if start >= stop:
            return b""
        client = self._client

        def read() -> bytes:
            with throughput(self.root).reading(stop - start):
                data = client.read(f"{client.path}/{item.name}", start, stop, item.version if client.pins else None)
            if len(data) != stop - start:
                raise ShortRead(f"{len(data):,} bytes came where {stop - start:,} were asked for")
            return data

        return self._request(item.url, read, item, halted)

    def open(self, item: BucketObject) -> Reader:
        """A raw stream of the whole object that counts its bytes and sums them up; call its `verify` at the end.

        When the mirror has a copy, that is read instead. Raises BucketError for a file that cannot be opened.
        """
        copy = self.mirror.find(item) if self.mirror else None
        if copy is None and self.is_local:
            copy = Path(f"{self._client.path}/{item.name}")
        if copy is None:
            chunks = range_chunks(lambda start, stop: self.read_range(item, start, stop), item.bytes)
        else:
            path = copy  # mypy does not see that it stays
            chunks = file_chunks(self._request(item.url, lambda: path.open("rb")))
        return self.checked(item, chunks, mirrored=copy is not None and not self.is_local)

    def checked(self, item: BucketObject, chunks: Chunks, mirrored: bool = False) -> Reader:
        """A reader that compares `chunks` with what is listed of the object. mirrored: they are read from its copy."""
        unchecked = not (self.is_local or item.crc32c or item.md5)
        return Reader(item, chunks, lambda fault: self._raise_for(item, fault, mirrored), unchecked)

    def rate(self) -> float | None:
        """Bytes per second that this bucket has given to this process; None before the first read."""
        return throughput(self.root).rate()

    def is_verifiable(self, item: BucketObject) -> bool:
        """Whether a later reader notices other content: by a checksum, or by a version that reads are pinned to."""
        return bool(item.crc32c or item.md5 or (item.version and self._client.pins))

    def pinned(self, item: Item) -> Item:
        """The same object, verifiable: with a crc32c (hex) of its own bytes, which are all read, where it was not.

        Raises BucketError.
        """
        if self.is_verifiable(item):
            return item

        def read() -> str:
            with self.open(item) as reader:
                return reader.verify()

        return replace(item, crc32c=retry_if_damaged(read))

    def _entries(self, folder: str) -> Sequence[Mapping[str, Any]]:
        client = self._client
        url, path = f"{self.root}/{folder}".rstrip("/"), f"{client.path}/{folder}".rstrip("/")

        def followed(entry: Mapping[str, Any]) -> Mapping[str, Any]:
            try:
                return client.filesystem.info(entry["name"]) if entry.get("islink") else entry
            except OSError:
                return entry

        def listed() -> Sequence[Mapping[str, Any]]:
            return [followed(entry) for entry in client.filesystem.ls(path, detail=True)]

        entries = self._request(url, listed)
        if [(entry["name"], entry.get("type")) for entry in entries] == [(path, "file")]:
            raise BucketError(f"{url} is a file where a folder of objects is expected: {self.where}")
        return entries

    def _object(self, name: str, entry: Mapping[str, Any]) -> BucketObject:
        return BucketObject(url=f"{self.root}/{name}", name=name, **entry_fields(entry))

    def _request(
        self,
        what: str,
        action: Callable[[], T],
        item: BucketObject | None = None,
        halted: Callable[[], bool] = lambda: False,
        verb: str = "read",
    ) -> T:
        """`action()` with retries. Raises BucketError in one line, or ObjectReplaced where `item` is another by now."""
        try:
            return with_retries(what, action, halted)
        except WorldlineError as error:
            if item is not None and isinstance(error.__cause__, ShortRead):
                self._require_same(item)
            raise
        except Exception as error:
            gone = isinstance(error, FileNotFoundError) or status_of(error) in GONE
            if item is not None and gone:
                self._require_same(item)
            raise _error(what, error, verb, self.where) from error

    def _require_same(self, item: BucketObject) -> None:
        now = self.stat(item.name)
        if not now.same_as(item):
            raise ObjectReplaced(
                f"{item.url} was replaced: it has {now.bytes:,} bytes of version {now.version} by now, the object list "
                f"says {item.bytes:,} of {item.version}: {REPAIR}"
            )

    def _raise_for(self, item: BucketObject, fault: str | None, mirrored: bool) -> None:
        """Raise the error for a reader that got other bytes than listed; see Reader.

        Raises DamagedInTransit, ObjectReplaced, or WorldlineError where a local file is damaged itself.
        """
        if fault is None:
            if not (mirrored or item.crc32c or item.md5 or self._client.pins):
                self._require_same(item)
            return
        if mirrored and self.mirror is not None:
            self.mirror.remove(item)
            raise DamagedInTransit(
                f"{item.url}: its copy in {self.mirror.folder} {fault} and was dropped: fetch it again"
            )
        self._require_same(item)
        if not item.crc32c and item.md5 and not self._client.md5_is_etag(f"{self._client.path}/{item.name}"):
            return
        error = WorldlineError if self.is_local else DamagedInTransit
        raise error(f"{item.url} {fault}: fetch that file again from its source")


def _error(url: str, error: Exception, verb: str, where: str) -> BucketError:
    """One line for an error that is not transient. Only what the bucket says it lacks is called absent."""
    status = status_of(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        return Absent(f"{url} does not exist: {where}, or list the bucket again")
    if isinstance(error, NotADirectoryError):
        return BucketError(f"{url} cannot be {verb} (a part of that path is a file, not a folder): {where}")
    denied = "Forbidden" in str(error) or "Credentials" in type(error).__name__  # the latter: none were found
    if isinstance(error, PermissionError) or status in (401, 403) or denied:
        repair = "give yourself the right to" if protocol(url) in LOCAL else ALLOW
        return Refused(f"{url} cannot be {verb} ({reason(error)}): {repair}")
    if protocol(url) in LOCAL:
        return BucketError(f"{url} is there and cannot be {verb} ({reason(error)}): check that disk and try again")
    return BucketError(f"{url} cannot be {verb} ({reason(error)}): check the storage profile and its options")


def _last(entry: Mapping[str, Any]) -> str:
    return PurePosixPath(entry["name"]).name
