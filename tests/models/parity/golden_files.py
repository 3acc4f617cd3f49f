"""The golden files of `tests/golden`, whole, or reduced to what takes no time; and how a test compares them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from models.parity.check import check

FILES = sorted((Path(__file__).parents[2] / "golden").glob("*.npz"))
INPUTS = ("meta/", "weights/", "batch/", "draws/")
TRAINED = ("loss/", "grad/", "grad_norm/", "after_step/", "after_step2/")

Arrays = dict[str, np.ndarray]
Change = Callable[[dict[str, Any]], object]
"""alters a config in place"""


def path_of(name: str) -> Path:
    """The golden file of that name."""
    return next(path for path in FILES if path.stem == name)


JOWA = path_of("jowa_c51_cql_q1")


def load(path: Path) -> Arrays:
    """All entries of a file."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def failed(arrays: Arrays) -> set[str]:
    """The entries whose checks fail."""
    return {one.name for one in check(arrays) if not one.ok}


def a_thousandth_off(arrays: Arrays, names: Iterable[str]) -> Arrays:
    """Copies of these entries, the largest number of each a thousandth larger."""
    wrong = {name: np.array(arrays[name]) for name in names}
    for array in wrong.values():
        array[np.unravel_index(np.abs(array).argmax(), array.shape)] *= 1.001
    return wrong


def untrained(arrays: Arrays) -> Arrays:
    """A file without what training steps left."""
    return {name: array for name, array in arrays.items() if not name.startswith(TRAINED)}


def changed(arrays: Arrays, change: Change) -> dict[str, Any]:
    """The file's config, which `change` has altered."""
    config: dict[str, Any] = json.loads(str(arrays["meta/config"]))
    change(config)
    return config


def restated(arrays: Arrays, change: Change) -> Arrays:
    """The same with a config that `change` has altered."""
    return arrays | {"meta/config": np.array(json.dumps(changed(arrays, change)))}


def reduced(arrays: Arrays, stages: tuple[str, ...] = ("stage1", "stage2")) -> Arrays:
    """A file of JOWA that has fewer stages, and neither plans nor play."""

    def cut(config: dict[str, Any]) -> None:
        dropped = {*config["stages"]} - {*stages}
        config |= {"plan": {}, "play": {}}
        config["stages"] = {name: config["stages"][name] for name in stages}
        config["left_out_entries"] = [name for name in config["left_out_entries"] if not of(name, dropped)]

    def of(name: str, stages: set[str]) -> bool:
        kinds = ("loss", "info", "grad", "grad_norm", "after_step", "after_step2", "draws")
        first, second, *_ = name.split("/")
        return first in kinds and second.removesuffix("_step2") in stages

    others = {*json.loads(str(arrays["meta/config"]))["stages"]} - {*stages}
    gone = ("plan/", "batch/plan/", "play/")
    kept = {name: array for name, array in arrays.items() if not name.startswith(gone) and not of(name, others)}
    return restated(kept, cut)
