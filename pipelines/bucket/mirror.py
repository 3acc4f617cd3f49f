"""A mirror is a local copy of objects in their bucket's own layout, so that its folder is itself a bucket (file://...).

Beside each object lies a hidden file with its size, checksums and version. A copy is used only when these are the ones
that are wanted; whoever reads it compares the checksum once more.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.clients import LOCAL, protocol
from pipelines.errors import WorldlineError, may_pass, not_now
from pipelines.store.store import Store


@dataclass(frozen=True)
class Mirror:
    """The copy of one bucket in `folder`. All mirrors below `folder.parent` together may hold `limit` bytes."""

    folder: Path
    limit: int | None = None

    @classmethod
    def of(cls, url: str, store: Store) -> "Mirror | None":
        """The mirror of the bucket `url` where the store's profile keeps it; None for a bucket that is local anyway."""
        if protocol(url) in LOCAL:
            return None
        root = url.rstrip("/")
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", root) + "-" + hashlib.sha256(root.encode()).hexdigest()[:8]
        base = store.profile.scratch_folder() or store.root.parent
        return cls(base / "mirror" / slug, store.profile.cache_bytes)

    def path(self, item: BucketObject) -> Path:
        """Where the copy of an object lies or would lie. Raises WorldlineError for a name that leaves the folder."""
        parts = PurePosixPath(item.name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in item.name:
            raise WorldlineError(f"{item.url}: '{item.name}' leads out of the mirror {self.folder}: rename the object")
        return self.folder.joinpath(*parts)

    def find(self, item: BucketObject) -> Path | None:
        """The copy of exactly this object (same size, version and checksums), or None.

        Raises MayPass where the disk failed: a copy that cannot be read now is not downloaded again in its place.
        """
        path = self.path(item)
        try:
            kept = BucketObject(url=item.url, **json.loads(_sidecar(path).read_text()))
            size = path.stat().st_size
        except (OSError, ValueError, TypeError) as error:
            if may_pass(error):
                raise not_now(path, error) from error
            return None
        return path if size == kept.bytes and kept.name == item.name and kept.same_as(item) else None

    def commit(self, item: BucketObject, part: Path) -> Path:
        """Commit a complete and verified file by rename. Its sidecar comes first: neither counts without the other."""
        path = self.path(item)
        path.unlink(missing_ok=True)  # an older version must not lie beside the newer's sidecar
        entry = {key: value for key, value in asdict(item).items() if key in BucketObject.__dataclass_fields__}
        del entry["url"]
        _sidecar(path).write_text(json.dumps(entry) + "\n")
        part.replace(path)
        return path

    def remove(self, item: BucketObject) -> None:
        """Delete the copy of an object."""
        path = self.path(item)
        _sidecar(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def require_room(self, items: Iterable[BucketObject]) -> None:
        """Raises WorldlineError when the copies of `items` would make the mirrors larger than their limit."""
        if self.limit is None:
            return
        missing = sum(item.bytes for item in items if self.find(item) is None)
        used = sum(path.stat().st_size for path in self.folder.parent.rglob("*") if path.is_file())
        if used + missing > self.limit:
            raise WorldlineError(
                f"Mirroring {missing:,} bytes beside the {used:,} in {self.folder.parent} exceeds cache_bytes "
                f"{self.limit:,}: raise cache_bytes in the storage profile, delete that folder, or use --mirror none"
            )


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")
