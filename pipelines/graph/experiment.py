"""An experiment: a recipe with its overrides, frozen on disk under a name when it is registered.

Its key, `<name>-<8 hex of the frozen config>`, is its partition in Dagster. Files: `WORLDLINE_HOME/experiments/`.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import Members, UsageError, WorldlineError, unknown
from pipelines.graph.config_io import from_plain, to_plain
from pipelines.graph.plan import Plan
from pipelines.graph.recipe import Recipe
from pipelines.progress import say
from pipelines.store.files import write_whole
from pipelines.store.ref import LONGEST, check_name
from pipelines.store.stage_config import canonical_json, plain

FORMAT = 2
LONGEST_NAME = LONGEST - 9  # its key adds a dash and eight digits
OLD = {"collect", "pretrain", "train"}  # what the recipes of format 1, which had no number, consist of


@dataclass(frozen=True)
class Experiment:
    """A name for a frozen recipe."""

    name: str
    recipe: Recipe

    @property
    def key(self) -> str:
        """`<name>-<8 hex>`; equal for equal names and configs."""
        frozen = {name: plain(part) for name, part in self.recipe.parts().items()}
        return f"{self.name}-{hashlib.sha256(canonical_json(frozen).encode()).hexdigest()[:8]}"


class _Rehearsal(Plan):
    """The chain of a recipe with a bucket that nobody lists: its configs show every fault, their keys mean nothing."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, "file:///")

    def listed(self, game: str, agent: int, how: Mapping[str, Any]) -> dict[str, str]:
        return {"url": "file:///"}


def check(folder: Path, name: str, recipe: Recipe) -> Experiment:
    """What `register` would freeze; nothing is written and no bucket asked.

    Raises UsageError for a name that later tools cannot take or that is taken by another config, naming the first
    difference, and for a recipe with a stage that would be refused when its turn comes.
    """
    _check_name(name)
    experiment = Experiment(name, recipe)
    rehearsal = _Rehearsal(recipe)
    for step in rehearsal.steps():
        rehearsal.config(step).check_frozen(rehearsal)
    for other in registered(folder):
        if other.name == name and other.key != experiment.key:
            raise UsageError(
                f"Experiment name '{name}' is taken by {other.key}, whose {_difference(other.recipe, recipe)}: "
                f"choose another name (worldline experiment new NAME), use that one as it is, or let it go (worldline "
                f"experiment remove {name})"
            )
        if other.key == name:
            raise UsageError(f"Experiment name '{name}' is the key of another one: choose another name")
    return experiment


def register(folder: Path, name: str, recipe: Recipe) -> Experiment:
    """Freeze `recipe` as experiment `name`. Registering the same again changes nothing but how the work is done.

    Those fields (`manner`: workers, devices, where files lie) are part of no key; the newest ones count.
    Raises UsageError as `check` does.
    """
    experiment = check(folder, name, recipe)
    path = folder / f"{experiment.key}.json"
    if not path.exists() or _read(path) != experiment:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            frozen = json.dumps({"format": FORMAT, "name": name, "recipe": to_plain(recipe)}, indent=1) + "\n"
            write_whole(path, frozen.encode(), path.with_suffix(f".{os.getpid()}.partial"))
        except OSError as error:
            raise WorldlineError(
                f"Experiment '{name}' cannot be written to {folder} ({error.strerror}): set WORLDLINE_HOME to a "
                "folder you own"
            ) from error
    return experiment


def registered(folder: Path, members: Members | None = None) -> list[Experiment]:
    """Every experiment on disk, by name. Files that hold none of this version are left out.

    Why is said in a line each, or kept in `members`.
    """
    kept, found = members or Members(), []
    for path, held in _files(folder).items():
        with kept.each(path.stem):
            if isinstance(held, WorldlineError):
                raise held
            found.append(held)
    for why in kept.failed.values() if members is None else ():
        say(str(why))
    return found


def forget(folder: Path, name_or_key: str) -> str:
    """Remove an experiment's file, whichever version froze it and whatever is left of it; returns its key.

    Raises UsageError for one that is not there, and for a name that several files go by.
    """
    files = _files(folder)
    meant = [path for path in files if path.stem == name_or_key] or [
        path for path, held in files.items() if name_or_key in _names(path, held)
    ]
    if len(meant) > 1:
        raise UsageError(
            f"'{name_or_key}' are {len(meant)} experiments: give the whole key, one of "
            f"{', '.join(path.stem for path in meant)}"
        )
    if not meant:
        known = [name for path, held in files.items() for name in _names(path, held)]
        raise unknown("experiment", name_or_key, known, "'worldline experiment list' prints names and keys")
    try:
        meant[0].unlink()
    except OSError as error:
        raise WorldlineError(f"{meant[0]} cannot be removed ({error.strerror}): give yourself the right to") from error
    return meant[0].stem


def find(folder: Path, name_or_key: str) -> Experiment:
    """The experiment of that name or key.

    Raises UsageError with the nearest name, WorldlineError where its file is of another version or damaged.
    """
    files = _files(folder)
    everything = [held for held in files.values() if isinstance(held, Experiment)]
    for experiment in everything:
        if name_or_key in (experiment.name, experiment.key):
            return experiment
    for path, held in files.items():
        if isinstance(held, WorldlineError) and name_or_key in _names(path, held):
            raise held
    if not everything:
        raise UsageError(
            f"Unknown experiment '{name_or_key}': none is registered in {folder} "
            "(worldline experiment new NAME --recipe demo)"
        )
    known = [item.name for item in everything]
    raise unknown("experiment", name_or_key, known, "'worldline experiment list' prints names and keys")


def _check_name(name: str) -> None:
    """A name begins keys, partitions, files and command lines: what each of them takes."""
    check_name(name)
    if len(name) > LONGEST_NAME:
        raise UsageError(f"Experiment name '{name[:40]}...' is {len(name)} characters long: use at most {LONGEST_NAME}")
    if name.startswith("-"):
        raise UsageError(f"Experiment name '{name}' begins like an option: begin it with a letter or a digit")
    if ".." in name:
        raise UsageError(f"Experiment name '{name}' holds '..', which means a range to Dagster: use one dot or none")


def _files(folder: Path) -> dict[Path, Experiment | WorldlineError]:
    """What every file holds: an experiment, or why it holds none."""
    if not folder.is_dir():
        return {}
    # not `glob`, to which a folder that may not be read is empty
    return {path: _read(path) for path in sorted(folder.iterdir()) if path.suffix == ".json"}


def _names(path: Path, held: Experiment | WorldlineError) -> set[str]:
    """What a file's experiment is called; where it cannot be read, by what is left inside and by the file's name."""
    if isinstance(held, Experiment):
        return {held.name}
    by_file = {path.stem, re.sub("-[0-9a-f]{8}$", "", path.stem)}
    try:
        return by_file | {str(json.loads(path.read_text())["name"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return by_file


def _read(path: Path) -> Experiment | WorldlineError:
    try:
        data = json.loads(path.read_text())
        name, frozen = data["name"], data["recipe"]
        try:
            return Experiment(name, from_plain(Recipe, frozen))
        except UsageError as error:
            if "format" not in data and {*frozen} >= OLD and path.stem.startswith(f"{name}-"):
                return WorldlineError(_retired(path.stem, frozen["name"]))
            raise error
    except OSError as error:
        return WorldlineError(f"{path} cannot be read ({error.strerror}): give yourself the right to")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        why = " ".join(str(error).split())
        return WorldlineError(
            f"{path} is no experiment of this version ({why or type(error).__name__}): 'worldline experiment remove "
            f"{path.stem}' lets it go, then 'worldline experiment new' freezes it again"
        )


def _retired(key: str, recipe: str) -> str:
    return (
        f"Experiment {key} is of an earlier version of Worldline, whose networks this one cannot read: its data and "
        f"scores are kept and used again, its networks are made anew by 'worldline experiment new NAME --recipe "
        f"{recipe}'; 'worldline experiment remove {key}' and 'worldline gc --yes' free their room"
    )


def _difference(ours: Recipe, theirs: Recipe) -> str:
    """The first differing field, as `train.seed is 0, not 1`."""
    left, right = _flat(to_plain(ours)), _flat(to_plain(theirs))
    for path in sorted(left.keys() | right.keys()):
        if left.get(path) != right.get(path):
            return f"{path} is {left.get(path)}, not {right.get(path)}"
    return "config differs"


def _flat(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {path: value}
    found: dict[str, object] = {}
    for name, item in items:
        found.update(_flat(item, f"{path}.{name}" if path else name))
    return found
