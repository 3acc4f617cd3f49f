"""The golden files of `tests/golden`, whole, or reduced to what takes no time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FILES = sorted((Path(__file__).parents[2] / "golden").glob("*.npz"))
JOWA = next(path for path in FILES if path.stem == "jowa_c51_cql_q1")

Arrays = dict[str, np.ndarray]


def load(path: Path) -> Arrays:
    """All entries of a file."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def restated(arrays: Arrays, change: Callable[[dict[str, Any]], object]) -> Arrays:
    """The same with a config that `change` has altered."""
    config = json.loads(str(arrays["meta/config"]))
    change(config)
    return arrays | {"meta/config": np.array(json.dumps(config))}


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
