"""What a name stands for: an artefact, and the digest its manifest had when the name was given."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.errors import UsageError, WorldlineError
from pipelines.store.ref import Ref


@dataclass(frozen=True)
class Pointer:
    """`manifest_sha256` is empty when the artefact was not there at the time."""

    ref: str
    manifest_sha256: str = ""

    def to_bytes(self) -> bytes:
        """The exact bytes of its file."""
        return (json.dumps(asdict(self)) + "\n").encode()

    @property
    def target(self) -> Ref:
        """The artefact's address."""
        return Ref.parse(self.ref)

    @classmethod
    def read(cls, path: Path) -> "Pointer":
        """Raises WorldlineError for a damaged file."""
        try:
            pointer = cls(**json.loads(path.read_bytes()))
            pointer.target  # noqa: B018 - an address that cannot be parsed is damage too
        except (ValueError, TypeError, AttributeError, UsageError) as error:
            raise WorldlineError(f"{path} is not a readable pointer ({error}): delete it and make it anew") from error
        return pointer
