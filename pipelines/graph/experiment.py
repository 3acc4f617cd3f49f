"""An experiment: a recipe with its overrides, frozen on disk under a name when it is registered.

Its key, `<name>-<8 hex of the frozen config>`, is its partition in Dagster. Files: `WORLDLINE_HOME/experiments/`.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UsageError, WorldlineError, unknown
from pipelines.graph.config_io import from_plain, to_plain
from pipelines.graph.plan import Plan
from pipelines.graph.recipe import Recipe
from pipelines.progress import say
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

    def listed(self, game: str, agent: int) -> tuple[str, str]:
        return "file:///", ""


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
    if not path.exists() or _read(path).recipe != recipe:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(f".{os.getpid()}.partial")
            aside.write_text(json.dumps({"format": FORMAT, "name": name, "recipe": to_plain(recipe)}, indent=1) + "\n")
            aside.replace(path)
        except OSError as error:
            raise WorldlineError(
                f"Experiment '{name}' cannot be written to {folder} ({error.strerror}): set WORLDLINE_HOME to a "
                "folder you own"
            ) from error
    return experiment


class OldExperimentError(WorldlineError):
    """A file that an earlier version froze: whole, with fields that this version does not know."""


def registered(folder: Path) -> list[Experiment]:
    """Every experiment on disk, by name; those of earlier versions are told in a line each and left out.

    Raises WorldlineError at a damaged file.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(_read(path))
        except OldExperimentError as old:
            say(str(old))
    return found


def forget(folder: Path, key: str) -> None:
    """Remove an experiment's file, whichever version froze it. Raises UsageError for a key that there is none of."""
    path = folder / f"{check_name(key)}.json"
    if not path.is_file():
        raise unknown("experiment", key, [each.stem for each in folder.glob("*.json")], "give its whole key")
    path.unlink()


def find(folder: Path, name_or_key: str) -> Experiment:
    """The experiment of that name or key. Raises UsageError with the nearest name."""
    everything = registered(folder)
    for experiment in everything:
        if name_or_key in (experiment.name, experiment.key):
            return experiment
    if not everything:
        raise UsageError(
            f"Unknown experiment '{name_or_key}': none is registered in {folder} "
            "(worldline experiment new NAME --recipe demo)"
        )
    raise unknown("experiment", name_or_key, [item.key for item in everything], "'worldline experiment list'")


def _check_name(name: str) -> None:
    """A name begins keys, partitions, files and command lines: what each of them takes."""
    check_name(name)
    if len(name) > LONGEST_NAME:
        raise UsageError(f"Experiment name '{name[:40]}...' is {len(name)} characters long: use at most {LONGEST_NAME}")
    if name.startswith("-"):
        raise UsageError(f"Experiment name '{name}' begins like an option: begin it with a letter or a digit")
    if ".." in name:
        raise UsageError(f"Experiment name '{name}' holds '..', which means a range to Dagster: use one dot or none")


def _read(path: Path) -> Experiment:
    try:
        data = json.loads(path.read_text())
        name, frozen = data["name"], data["recipe"]
        try:
            return Experiment(name, from_plain(Recipe, frozen))
        except UsageError as error:
            if "format" not in data and {*frozen} >= OLD and path.stem.startswith(f"{name}-"):
                raise OldExperimentError(_retired(path.stem, frozen["name"])) from error
            raise
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise WorldlineError(
            f"{path} is no experiment of this version ({error}): register it again under another name and delete it"
        ) from error


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
