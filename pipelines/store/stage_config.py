"""What an artefact is made from: a stage's frozen config, from whose fields follow config, parents and key.

The key is a hash of exactly these, so an equal key means an equal artefact.
"""

import hashlib
import json
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar

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


def option(default: Any) -> Any:
    """A field that came after artefacts existed: at its default it is left out of config and key.

    Artefacts made before the option was there so keep matching. Its default may never change.
    """
    return field(default=default, metadata={"elide": True})


def manner(default: Any) -> Any:
    """A field that says how the work is done, not what comes out (workers, mirrors): never in config or key."""
    return field(default=default, metadata={"manner": True})


class StageConfig:
    """Base of the frozen dataclasses in this folder.

    Fields that are a `Ref`, or a tuple of them, are the parents; all others are the config, except as `option` and
    `manner` say. Raise `CODE` whenever the stage would write other bytes for the same config: old artefacts then
    stop matching and are made anew. `CHECKS` names every check that the stage records in the manifest.
    """

    STAGE: ClassVar[str]
    CODE: ClassVar[str]
    CHECKS: ClassVar[tuple[str, ...]] = ()

    @property
    def subject(self) -> str:
        """What the artefact is about: the folder between the stage and the key."""
        raise TypeError(f"{type(self).__name__} must define subject")

    @property
    def parents(self) -> tuple[Ref, ...]:
        """Every artefact this one is made from, in field order."""
        found: list[Ref] = []
        for value in self._values().values():
            found += [value] if isinstance(value, Ref) else [item for item in _items(value) if isinstance(item, Ref)]
        return tuple(found)

    def spec(self) -> Spec:
        """The store's view: stage, subject, code version, config without parents, parents."""
        config = {
            name: value
            for name, value in plain(self).items()
            if not (isinstance(value, Ref) or any(isinstance(item, Ref) for item in _items(value)))
        }
        return Spec(self.STAGE, self.subject, self.CODE, config, self.parents)

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else ()


def plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON knows them, without what `option` and `manner` leave out."""
    if isinstance(value, Ref):
        return value
    if hasattr(value, "__dataclass_fields__"):
        kept = [entry for entry in fields(value) if _counts(entry, getattr(value, entry.name))]
        return {entry.name: plain(getattr(value, entry.name)) for entry in kept}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def _counts(entry: "Field[Any]", value: Any) -> bool:
    """Whether a field is part of what its artefact is. Models mark theirs with the same metadata."""
    return not entry.metadata.get("manner") and not (entry.metadata.get("elide") and value == entry.default)
