"""What an artefact is made from: a stage's frozen config, from whose fields follow config, parents and key.

The key is a hash of exactly these, so an equal key means an equal artefact.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, Self

from models.family import AgentConfig, manner, option
from models.limits import broken
from pipelines.errors import UsageError
from pipelines.store.ref import Ref

__all__ = [
    "VERBS",
    "Beside",
    "Parent",
    "Spec",
    "StageConfig",
    "Work",
    "canonical_json",
    "filled",
    "manner",
    "networks_beside",
    "networks_named",
    "option",
    "parent",
    "plain",
]

KEY_HEX = 16


@dataclass(frozen=True)
class Spec:
    """One artefact to be made: stage, subject, the stage's code version, resolved config and exact parents.

    `parts` names the part that is read of each parent, "" where that is all of it; no entry at all means all of each.
    The key does not depend on it. Raises ValueError when parents and parts differ in number.
    """

    stage: str
    subject: str
    code_version: str
    config: dict[str, Any]
    parents: tuple[Ref, ...] = field(default=())
    parts: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.parts and len(self.parts) != len(self.parents):
            raise ValueError(f"{len(self.parts)} parts for {len(self.parents)} parents: name one for each, or none")

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
    plain = json.loads(
        json.dumps(value, allow_nan=False, default=_address)
    )  # keys are text now, so that they sort as they will be read
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _address(value: Any) -> str:
    """An address in a config, as text."""
    if isinstance(value, Ref):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


@dataclass(frozen=True)
class Parent:
    """What a field of a config reads: the artefact of a stage, or the agent that an earlier stage made.

    every: "game" or "agent", for a field that holds the artefacts of all of them. part: the only part of the artefact
    that is read. soft: it is read only where the plan makes it for another stage anyway. when: a property of the config
    that says whether it is read at all. A parent whose stage is not in a plan is left out; where it is `given`, its
    field may then name an artefact by its address.
    """

    stage: str = ""
    makes: str = ""
    every: str = ""
    part: str = ""
    soft: bool = False
    when: str = ""
    given: bool = False


def parent(
    stage: str = "",
    *,
    makes: str = "",
    every: str = "",
    part: str = "",
    soft: bool = False,
    when: str = "",
    given: bool = False,
    added: bool = False,
) -> Any:
    """A field that the plan fills with the address of a parent, of its own game where there are several.

    `makes="agent"` is the last stage before this one that makes an agent. `added`: see `option`.
    """
    metadata = {"parent": Parent(stage, makes, every, part, soft, when, given)} | ({"elide": True} if added else {})
    return field(default=() if every else None, metadata=metadata)


def filled(by: str, default: Any, *, added: bool = False) -> Any:
    """A field that the plan fills from the recipe or the step: game, agent, name, games or seed. `added`: see `option`.

    From "source" comes what names the bucket, its layout and its objects.
    """
    return field(default=default, metadata={"filled": by} | ({"elide": True} if added else {}))


class Beside(Protocol):
    """What a config may ask of the plan that it belongs to."""

    @property
    def name(self) -> str:
        """The recipe's name."""

    @property
    def source(self) -> str:
        """Where its data come from."""

    @property
    def agents(self) -> tuple[int, ...]:
        """The agents whose replay it reads."""

    def template(self, verb: str) -> "StageConfig | None":
        """Another stage's settings in the same recipe; None where it has none."""

    def listed(self, game: str, agent: int, how: Mapping[str, Any]) -> dict[str, str]:
        """The bucket that replay comes from: its `url` and `layout`, and `listing`, the digest of one agent's objects.

        how: what the config says of reading them (compat, keep_padding).
        """


@dataclass(frozen=True)
class Work:
    """How much one artefact is: `amount` of `unit`, as its manifest counts it (in its counts or metrics).

    A rate that was measured on one artefact holds for another whose `like` is equal: the sizes of its networks, say.
    What an artefact takes on disk goes by `kept`, a unit and an amount, where that is not the work.
    """

    unit: str
    amount: float
    like: str = ""
    kept: tuple[str, float] | None = None


VERBS: dict[str, tuple[str, str]] = {}
"""Stage -> the verb that makes its artefacts, and whether they are plain data; of stages whose config was imported."""


class StageConfig:
    """Base of the stages' frozen configs.

    Fields that are a `Ref`, or a tuple of them, are the parents (`parent` says whose); all others are the config,
    except as `option` and `manner` say. `VERB` is the stage's name in recipes, overrides and commands. Raise `CODE`
    whenever the stage would write other bytes for the same config: old artefacts then stop matching and are made
    anew. `CHECKS` names every check that the stage records in the manifest, but for those `OF_SOME` inputs alone.
    """

    STAGE: ClassVar[str]
    VERB: ClassVar[str]
    CODE: ClassVar[str]
    CHECKS: ClassVar[tuple[str, ...]] = ()
    OF_SOME: ClassVar[tuple[str, ...]] = ()
    DATA: ClassVar[bool] = False  # whether a command makes its artefacts without an experiment

    def __init_subclass__(cls) -> None:
        if "STAGE" in cls.__dict__:
            VERBS[cls.STAGE] = cls.VERB, "data" if cls.DATA else ""

    def __post_init__(self) -> None:
        require(self, self.VERB)

    @property
    def wanted(self) -> bool:
        """Whether a recipe with this template has the stage at all."""
        return True

    @property
    def only_game(self) -> str:
        """The one game that this stage and all after it are about; empty where it is the recipe's games."""
        return ""

    @classmethod
    def filled_by(cls, by: str) -> set[str]:
        """The fields that the plan fills from `by`; from "source" what names the bucket and its objects."""
        return {entry.name for entry in fields(cls) if entry.metadata.get("filled") == by}  # type: ignore[arg-type]

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The template with what the plan fills in: parents, game, seed and the like, by field."""
        return replace(self, **values)  # type: ignore[type-var]  # every config is a dataclass

    def along(self, changes: dict[str, Any]) -> dict[str, Any]:
        """These changes of fields, by name, with what else changes where they do."""
        return changes

    def check_beside(self, beside: Beside) -> None:
        """Raises UsageError where this template does not fit others of its recipe."""

    def check_frozen(self, beside: Beside) -> None:
        """Raises UsageError for what the stage would refuse later, before its work.

        Asked once, of the filled config, when an experiment is frozen: what was frozen before stays as it is.
        """

    def work(self, beside: Beside) -> Work | None:
        """How much this template makes in one artefact of its stage; None where nobody knows before."""
        return None

    @property
    def subject(self) -> str:
        """What the artefact is about: the folder between the stage and the key."""
        raise TypeError(f"{type(self).__name__} must define subject")

    @property
    def parents(self) -> tuple[Ref, ...]:
        """Every artefact this one is made from, in field order."""
        return tuple(ref for ref, _ in self._parents())

    def spec(self) -> Spec:
        """The store's view: stage, subject, code version, config without parents, parents."""
        config = {
            name: value
            for name, value in plain(self).items()
            if not (isinstance(value, Ref) or any(isinstance(item, Ref) for item in _items(value)))
        }
        parts = tuple(part for _, part in self._parents())
        return Spec(self.STAGE, self.subject, self.CODE, config, self.parents, parts if any(parts) else ())

    def _parents(self) -> Iterator[tuple[Ref, str]]:
        """Every parent with the part that is read of it, "" where that is all."""
        for entry in fields(self):  # type: ignore[arg-type]
            value, declared = getattr(self, entry.name), entry.metadata.get("parent")
            for item in (value,) if isinstance(value, Ref) else _items(value):
                if isinstance(item, Ref):
                    yield item, declared.part if declared else ""


def networks_beside(beside: Beside) -> AgentConfig | None:
    """The networks of a recipe's agent, as the first of its templates that has some names them; None where none does.

    Those of no family are none.
    """
    templates = (beside.template(verb) for verb, _ in VERBS.values())
    found = next((networks for each in templates if (networks := getattr(each, "networks", None)) is not None), None)
    return found if found is not None and found.family else None


def networks_named(beside: Beside) -> str:
    """Everything that a recipe says of its networks, as a text; empty where it makes none."""
    networks = networks_beside(beside)
    return "" if networks is None else canonical_json(plain(networks))


def require(config: Any, path: str) -> None:
    """Raises UsageError naming each field that breaks its limits (`models.limits`), as a user sets it below `path`."""
    if text := broken(config, path):
        raise UsageError(text)


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
