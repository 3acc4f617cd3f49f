"""A finished artefact on disk: its folder, its manifest, and the digest that children pin."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import WorldlineError
from pipelines.store.hashing import sha256_of
from pipelines.store.manifest import Manifest
from pipelines.store.ref import Ref


@dataclass(frozen=True)
class Artefact:
    """Immutable. Read its files through `path(name)`."""

    ref: Ref
    folder: Path
    manifest: Manifest
    digest: str

    def path(self, name: str) -> Path:
        """Absolute path of one of its files; raises WorldlineError when the manifest does not list it."""
        if all(entry.path != name for entry in self.manifest.files):
            raise WorldlineError(f"{self.ref} has no file '{name}': it holds {', '.join(self.names())}")
        return self.folder / name

    def names(self) -> list[str]:
        """The files the manifest lists."""
        return [entry.path for entry in self.manifest.files]

    def faults(self, rehash: bool) -> list[str]:
        """What is wrong with the files: missing, another size, another hash (only when `rehash`). Empty when sound."""
        found = []
        for entry in self.manifest.files:
            path = self.folder / entry.path
            if not path.is_file():
                found.append(f"{path}: missing")
            elif path.stat().st_size != entry.bytes:
                found.append(f"{path}: {path.stat().st_size} bytes, the manifest says {entry.bytes}")
            elif rehash and sha256_of(path) != entry.sha256:
                found.append(f"{path}: sha256 differs from the manifest")
        return found
