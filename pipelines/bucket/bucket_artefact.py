"""An artefact whose files lie in a bucket (see bucket_store.py): read through copies of them, or where they lie."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.bucket.cache import Cache, NoRoomError, Use
from pipelines.bucket.retry import BucketError
from pipelines.bucket.stream import BLOCKS_NAME, StreamedFile, streamed
from pipelines.errors import MayPass
from pipelines.progress import say
from pipelines.store.artefact import Artefact
from pipelines.store.manifest import FileEntry

FILES, MANIFESTS = "files", "manifests"  # folders of the bucket


@contextmanager
def sure() -> Iterator[None]:
    """Raises MayPass where the bucket does not answer: what it holds is not known then, and not missing or damaged."""
    try:
        yield
    except BucketError as error:
        raise MayPass(error) from error


@dataclass(frozen=True)
class BucketArtefact(Artefact):
    """Its files come into the cache when they are asked for, and stay there as long as this object lives."""

    cache: Cache = field(kw_only=True, repr=False, compare=False)
    _uses: list[Use] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The folder that holds all its files. Raises WorldlineError where they do not fit into the cache."""
        self._bring(self.manifest.files)
        return self.place

    @property
    def where(self) -> str:
        return self.manifest_at

    @property
    def manifest_at(self) -> str:
        return f"{self.cache.bucket.root}/{MANIFESTS}/{self.ref}.json"

    @property
    def files_at(self) -> str:
        """The folder of the bucket that holds its files."""
        return f"{FILES}/{self.ref}/{self.digest}"

    def path(self, name: str) -> Path:
        path = super().path(name)
        self._bring([entry for entry in self.manifest.files if entry.path == name])
        return path

    def source(self, name: str) -> Path | StreamedFile:
        """The file's copy, or where the cache has no room for that, the file in the bucket."""
        try:
            return self.path(name)
        except NoRoomError:
            (found,) = self._streamed(name, [entry for entry in self.manifest.files if entry.path == name])
            return found

    def sources(self, folder: str) -> Path | dict[str, StreamedFile]:
        """The same of all files below a folder: their copies, or where not all find room, those in the bucket."""
        entries = [entry for entry in self.manifest.files if entry.path.startswith(f"{folder}/")]
        try:
            self._bring(entries)
        except NoRoomError:
            files = self._streamed(folder, entries)
            return {entry.path.removeprefix(f"{folder}/"): file for entry, file in zip(entries, files, strict=True)}
        return self.place / folder

    def _streamed(self, name: str, entries: Sequence[FileEntry]) -> list[StreamedFile]:
        size = sum(entry.bytes for entry in entries)
        say(
            f"{self.ref}: the cache has no room for {name} ({size:,} bytes, cache_bytes is {self.cache.limit:,}), it "
            "is read from the bucket piece by piece"
        )
        return streamed(self.cache.bucket, self.files_at, entries)

    def faults(self, rehash: bool) -> list[str]:
        """What is wrong with the files in the bucket; with `rehash` every one is read. Raises MayPass."""
        found = []
        with sure():
            there = self.cache.bucket.below(self.files_at)
            for entry in self.manifest.files:
                url, item = f"{self.cache.bucket.root}/{self.files_at}/{entry.path}", there.get(entry.path)
                if item is None:
                    found.append(f"{url}: missing")
                elif item.bytes != entry.bytes:
                    found.append(f"{url}: {item.bytes} bytes, the manifest says {entry.bytes}")
                elif rehash and not self.cache.is_in_bucket(item, entry.sha256):
                    found.append(f"{url}: sha256 differs from the manifest")
        return found

    def unlisted(self) -> list[str]:
        there = self.cache.bucket.below(self.files_at)
        return [there[name].url for name in sorted(there.keys() - {*self.names(), BLOCKS_NAME})]

    def bring(self, rehash: bool) -> None:
        """Have all files here; with `rehash` those again that changed on this disk."""
        self._bring(self.manifest.files)
        if rehash:
            self.cache.hash_again(self.digest, self.manifest.files)
            self._bring(self.manifest.files)

    def _bring(self, entries: Iterable[FileEntry]) -> None:
        if not self._uses:
            self._uses.append(self.cache.use(self.digest))
        self.cache.bring(self.digest, self.files_at, list(entries), str(self.ref))
