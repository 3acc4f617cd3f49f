"""What an artefact is made from: its key is a hash of exactly this, so an equal key means an equal artefact."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import UsageError
from pipelines.store.ref import Ref

KEY_HEX = 16


@dataclass(frozen=True)
class Spec:
    """One artefact to be made: stage, subject, the stage's code version, resolved config and exact parents."""

    stage: str
    subject: str
    code_version: str
    config: dict[str, Any]
    parents: tuple[Ref, ...] = field(default=())

    @property
    def key(self) -> str:
        """16 hex digits of sha256 over stage, code version, config and the parents' addresses (not the subject).

        Raises UsageError when the config holds an infinity or a NaN: JSON has no such number.
        """
        parts = [self.stage, self.code_version, self.config, [str(parent) for parent in self.parents]]
        try:
            text = canonical_json(parts)
        except ValueError as error:
            raise UsageError(f"The config of {self.stage} cannot be hashed ({error}): use finite numbers") from error
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_HEX]

    @property
    def ref(self) -> Ref:
        """Where the artefact will stand."""
        return Ref(self.stage, self.subject, self.key)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value always gives the same text, also once read back from JSON."""
    plain = json.loads(json.dumps(value, allow_nan=False))  # keys are text now, so that they sort as they will be read
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
