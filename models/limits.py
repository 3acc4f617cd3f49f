"""Limits of config fields, written beside the fields: `layers: Count = 4`, `leaf: Literal["max", "mean"] = "max"`.

`broken` reads them and words every fault in one way, so that a config states a rule where the field stands and only
rules that tie fields together are code. Readers of configs (`typing.get_type_hints`) see the plain types. Plain data.
"""

import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any


@dataclass(frozen=True)
class Within:
    """A range of numbers: `least` and `most` belong to it, `above` and `below` do not."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def allows(self, value: float) -> bool:
        """Whether the number lies in the range; NaN lies in none."""
        return (
            value == value
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def rule(self, value: float) -> str:
        """What a value outside the range must be; of a long range, the end that it broke."""
        if self.most is None or self.most < LONG:
            return str(self)
        return str(Within(most=self.most) if value > self.most else replace(self, most=None))

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"from {_number(self.least)} to {_number(self.most)}"
        words = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(
            f"{word} {_number(limit)}" for word, limit in words.items() if limit not in (None, math.inf)
        )


MOST = 2**53  # JSON, numpy and torch hold every whole number up to here
LONG = 2**16
Count = Annotated[int, Within(least=1, most=MOST)]
Natural = Annotated[int, Within(least=0, most=MOST)]
Size = Annotated[int, Within(least=1, most=LONG)]  # what memory must hold at once; tokens are stored in 16 bits
Kept = Annotated[
    int, Within(least=0, most=2**23)
]  # numbers that are kept in memory; torch finds quantiles of 2**24 at most
Few = Annotated[int, Within(least=0, most=LONG)]  # the same, or none
# Draws of a step are seeded with a million times the seed, in 64 bits. Times in milliseconds fit, in nanoseconds not.
Seed = Annotated[int, Within(least=0, most=2**43 - 1)]
Positive = Annotated[float, Within(above=0, below=float("inf"))]
Rate = Annotated[float, Within(above=0, most=1000)]  # a learning rate; beyond, nothing stays finite
Weight = Annotated[float, Within(least=0)]
Share = Annotated[float, Within(least=0, most=1)]
Dropout = Annotated[float, Within(least=0, below=1)]


def broken(config: Any, path: str = "") -> str:
    """Which fields of a config break their limits, with value and rule; empty when none does. `path` goes before."""
    return "; ".join(_faults(config, f"{path}." if path else ""))


def check(config: Any, path: str = "") -> None:
    """Raises ValueError as `broken` words it. For configs that know no other error."""
    if text := broken(config, path):
        raise ValueError(text)


def require_unset(config: Any, path: str, names: str, without: str) -> None:
    """Raises ValueError where one of these fields, in words `a b c`, is not at its default although nothing reads it.

    without: why nothing does, and the repair that would change it, as "with x: set y".
    """
    defaults = {entry.name: entry.default for entry in fields(config)}
    for name in names.split():
        if (value := getattr(config, name)) != (default := defaults[name]):
            left = _shown(default) or "empty"
            raise ValueError(f"{path}.{name} {_shown(value)} has no effect {without}, or leave it {left}")


def _faults(config: Any, path: str) -> Iterator[str]:
    kind: type = type(config)
    for name, (range_, choices) in _rules(kind).items():
        value = getattr(config, name)
        for one in value if isinstance(value, tuple) else (value,):
            if range_ is not None and isinstance(one, (int, float)) and not range_.allows(one):
                yield f"{path}{name} {_shown(value)} is impossible: it must be {range_.rule(one)}"
                break
            if choices and one is not None and one not in choices:
                near = get_close_matches(str(one), [str(choice) for choice in choices], n=1, cutoff=0.5)
                repair = f"did you mean '{near[0]}'? " if near else ""
                yield f"{path}{name} '{one}' is unknown: {repair}choose from {_listed(choices)}"
                break


@cache
def _rules(kind: type) -> dict[str, tuple[Within | None, tuple[Any, ...]]]:
    """By field, its range and its choices; fields without either are left out."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {entry.name: _rule(hints[entry.name]) for entry in fields(kind)}
    return {name: rule for name, rule in found.items() if rule != (None, ())}


def _rule(hint: Any) -> tuple[Within | None, tuple[Any, ...]]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return next((each for each in args[1:] if isinstance(each, Within)), None), ()
    if origin is typing.Literal:
        return None, args
    if origin in (tuple, types.UnionType, typing.Union) and args:
        return next((rule for rule in map(_rule, args) if rule != (None, ())), (None, ()))
    return None, ()


def _number(limit: float | None) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _listed(choices: tuple[Any, ...]) -> str:
    return ", ".join(str(choice) if choice != "" else "'' (none)" for choice in choices)
