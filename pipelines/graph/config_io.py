"""Frozen dataclasses to JSON and back, by their annotations; and overriding fields by dotted paths.

Only what recipes use is read: dataclasses, tuples, `X | None`, str, int, float, bool. Nothing is evaluated.
"""

import math
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from typing import Any, NamedTuple

from models.family import AgentConfig
from models.registry import family
from pipelines.errors import UsageError, nearest, unknown
from pipelines.graph.recipe import Recipe
from pipelines.graph.table import BY_VERB
from pipelines.store.ref import Ref
from pipelines.store.stage_config import KEY_HEX, StageConfig

NUMBERS = {int: "a whole number, such as 3000", float: "a number, such as 0.001"}


def to_plain(value: Any) -> Any:
    """A frozen config as JSON types; a recipe's templates stand under their verbs."""
    if isinstance(value, Recipe):
        return {name: to_plain(part) if is_dataclass(part) else part for name, part in value.parts().items()}
    return asdict(value)


def from_plain(kind: Any, data: Any, where: str = "") -> Any:
    """Rebuild a value of type `kind` from JSON types. Raises UsageError naming the field on any mismatch."""
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(data, dict):
            raise UsageError(f"{where or 'The config'} must be a mapping of fields, it is {data!r}")
        if kind is Recipe:
            return _recipe(data)
        if kind is AgentConfig and data.get("family"):
            kind = _config_of(data["family"], where)
        hints = typing.get_type_hints(kind)
        known = {field.name for field in fields(kind)}
        for name in data:
            if name not in known:
                raise unknown(
                    "field", f"{where}{name}", [where + item for item in known], "see 'worldline recipe show'"
                )
        return kind(**{name: from_plain(hints[name], item, f"{where}{name}.") for name, item in data.items()})
    return _from_plain_leaf(kind, data, where.rstrip("."))


def _recipe(data: dict[str, Any]) -> Recipe:
    """A recipe from its own fields and the templates under their verbs."""
    hints = typing.get_type_hints(Recipe)
    own = {name: from_plain(hints[name], value, f"{name}.") for name, value in data.items() if name in hints}
    others = {name: value for name, value in data.items() if name not in hints}
    for verb in others:
        if verb not in BY_VERB:
            raise unknown("field", verb, [*hints, *BY_VERB], "see 'worldline recipe show'")
    stages = tuple(from_plain(BY_VERB[verb].config, value, f"{verb}.") for verb, value in others.items() if value)
    return Recipe(**{**own, "stages": stages})


def _config_of(name: Any, where: str) -> type[AgentConfig]:
    """The config of the model family that a frozen config names."""
    try:
        return family(name).config
    except ValueError as error:
        raise UsageError(f"{where}family: {error}") from error


def _from_plain_leaf(kind: Any, data: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in args:
            return None
        return from_plain(next(arg for arg in args if arg is not type(None)), data, where + ".")
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            raise UsageError(f"{where} must be a list, it is {data!r}")
        return tuple(from_plain(args[0], item, f"{where}[{index}].") for index, item in enumerate(data))
    if origin is typing.Literal:
        if data not in args:
            raise UsageError(f"{where} must be one of {', '.join(map(str, args))}, it is {data!r}")
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if kind is not Any and (not isinstance(data, kind) or (kind is int and isinstance(data, bool))):
        raise UsageError(f"{where} must be {kind.__name__}, it is {data!r}")
    return data


def override(config: Any, *assignments: str) -> Any:
    """`override(recipe, "seed=1", "train.phases.world_action.steps=600")`: a copy with these fields changed.

    Values are read by the type of their field; a part that is left out begins with its defaults. Members of a tuple of
    dataclasses are named by their `name`; a tuple of plain values is written `a,b,c`. Rules that tie two fields see
    both changes at once, in whatever order they are given; of two values for one field the later counts.
    """
    leaves = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise UsageError(f"'{assignment}' is no override: write field.path=value, for example collect.seed=1")
        leaves.append(_Leaf(tuple(path.split(".")), text, path))
    return _override(config, leaves) if leaves else config


class _Leaf(NamedTuple):
    """One assignment: what is left of its path at this depth, its value, and the path as it was given."""

    path: tuple[str, ...]
    text: str
    full: str

    def __str__(self) -> str:
        return f"Override '{self.full}={self.text}'"

    @property
    def name(self) -> str:
        return self.path[0]

    @property
    def prefix(self) -> str:
        return self.full.removesuffix(".".join(self.path)) if self.full.endswith(".".join(self.path)) else ""


def _override(config: Any, leaves: Sequence[_Leaf]) -> Any:
    where = "'worldline recipe show NAME' prints all fields"
    if isinstance(config, tuple):
        members = {getattr(item, "name", str(index)): item for index, item in enumerate(config)}
        return tuple((members | _values(members, None, "member", leaves, where)).values())
    if isinstance(config, Recipe):
        parts = config.latent() | config.parts()
        kinds = typing.get_type_hints(Recipe) | {name: type(part) for name, part in parts.items() if is_dataclass(part)}
        return config.but(**_values(parts, kinds, "field", leaves, where))
    if not is_dataclass(config) or isinstance(config, type):
        raise UsageError(f"{leaves[0]}: '{leaves[0].name}' lies below a plain value; {where}")
    now = {field.name: getattr(config, field.name) for field in fields(config)}
    leaves = [_through_inner(config, now, leaf) for leaf in leaves]
    hints = typing.get_type_hints(type(config))
    left_out = {leaf.name for leaf in leaves if leaf.path[1:] and leaf.name in now and now[leaf.name] is None}
    now |= {name: _begun(hints[name]) for name in left_out}
    given = [each.name for each in fields(config) if getattr(each.metadata.get("parent"), "given", False)]
    changes = _values(now, hints | dict.fromkeys(given, Ref), "field", leaves, where, _inner_names(config))
    if isinstance(config, StageConfig):
        changes = config.along(changes)
    try:
        return replace(config, **changes)
    except ValueError as error:  # models know no UsageError
        raise UsageError(f"{', '.join(map(str, leaves))}: {error}") from error


def _begun(kind: Any) -> Any:
    """What a part that is left out becomes where a field below it is set: its defaults; None of what has none."""
    for part in typing.get_args(kind):
        if is_dataclass(part) and all(
            each.default is not MISSING or each.default_factory is not MISSING for each in fields(part)
        ):
            return part() if isinstance(part, type) else None
    return None


def _through_inner(config: Any, now: dict[str, Any], leaf: _Leaf) -> _Leaf:
    """A path that names a field of an `inner` config without it: pretrain.model.width is pretrain.networks.model.width.

    A field is inner where its metadata say so: its own fields, or the members of its tuple by their names, read as if
    they stood beside it; and the fields of a tuple's only member.
    Raises UsageError where several inner configs have that name, and only one of the others has what lies below it.
    """
    found: list[tuple[_Leaf, Any]] = []
    for entry in fields(config):
        inner = now[entry.name] if entry.metadata.get("inner") else None
        if isinstance(inner, tuple):
            members = {member.name: member for member in inner}
            if leaf.name in members:
                found.append((leaf._replace(path=(entry.name, *leaf.path)), members[leaf.name]))
            elif len(inner) == 1 and leaf.name != "name" and hasattr(inner[0], leaf.name):
                found.append((leaf._replace(path=(entry.name, inner[0].name, *leaf.path)), None))
        elif inner is not None and hasattr(inner, leaf.name):
            found.append((leaf._replace(path=(entry.name, *leaf.path)), getattr(inner, leaf.name)))
    if not found:
        return leaf
    if (below := leaf.path[1:2]) and not hasattr(found[0][1], below[0]):
        for other, named in found[1:]:
            if hasattr(named, below[0]):
                whole, taken = (leaf.prefix + ".".join(each.path) for each in (other, found[0][0]))
                raise UsageError(f"Unknown field '{leaf.full}', which means {taken}: write {whole}={leaf.text}")
    return found[0][0]


def _inner_names(config: Any) -> list[str]:
    """What a path may name without its `inner` field, as `_through_inner` reads it."""
    found = []
    for entry in fields(config):
        inner = getattr(config, entry.name) if entry.metadata.get("inner") else ()
        if isinstance(inner, tuple):
            found += [member.name for member in inner]
            inner = inner[0] if len(inner) == 1 else None
        found += [each.name for each in fields(inner)] if inner is not None else []
    return found


def _values(
    now: dict[str, Any],
    kinds: dict[str, Any] | None,
    noun: str,
    leaves: Sequence[_Leaf],
    where: str,
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """New values by name: whole ones read by their kind, then what lies below them changed in turn.

    `others`: names that would have been right as well, for the error.
    """
    below: dict[str, list[_Leaf]] = {}
    found = {}
    for leaf in leaves:
        if leaf.name not in now:
            raise unknown(noun, leaf.prefix + leaf.name, [leaf.prefix + item for item in (*now, *others)], where)
        if leaf.path[1:]:
            below.setdefault(leaf.name, []).append(leaf._replace(path=leaf.path[1:]))
        elif kinds is None:
            raise UsageError(f"{leaf}: name one of its fields instead, for example {leaf.full}.FIELD=...")
        else:
            found[leaf.name] = _parse(kinds[leaf.name], leaf.text, leaf.full)
    return found | {name: _override(now[name], inner) for name, inner in below.items()}


def _parse(kind: Any, text: str, full: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and not is_dataclass(args[0]):
        return tuple(_parse(args[0], item.strip(), full) for item in text.split(",") if item.strip())
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"Override '{full}={text}': the field is true or false")
        return text.lower() == "true"
    if origin is typing.Literal:
        if text not in args:
            near = f"did you mean '{found}'? " if (found := nearest(text, map(str, args))) else ""
            raise UsageError(f"Override '{full}={text}': {near}choose from {', '.join(map(str, args))}")
        return text
    if kind is str:
        return text
    if kind in NUMBERS:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"Override '{full}={text}': the field is {NUMBERS[kind]}")
        return number
    if kind is Ref:
        if not re.fullmatch(f"[0-9a-f]{{{KEY_HEX}}}", text.rpartition("/")[2]):
            raise UsageError(f"Override '{full}={text}': name an address, stage/subject/key, as 'worldline list' does")
        return Ref.parse(text)
    if Ref in args:
        raise UsageError(f"Override '{full}={text}': parents follow from the plan and cannot be set")
    raise UsageError(f"Override '{full}={text}': name one of its fields instead, for example {full}.FIELD=...")
