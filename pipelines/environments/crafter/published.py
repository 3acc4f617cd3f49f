"""What others printed of their agents in Crafter, and the episodes that they released with it.

Data: published.json, the scoreboard of the package and the human players' episodes. A score is the mean over training
runs of each run's own, as `evaluation.achievements` computes it; what follows "±" is the deviation between runs.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.crafter.game import ACHIEVEMENTS


@dataclass(frozen=True)
class Run:
    """One training run, or one human player: `returns` (E,), and `reached` (E, 22) bool, by episode."""

    returns: NDArray[np.float64]
    reached: NDArray[np.bool_]


@dataclass(frozen=True)
class Published:
    """One published row. `budget` is the steps of play in which it learned; None for who does not learn.

    `printed` holds "score" (percent) and "return" as they were printed, as far as they were; `runs` what was released.
    """

    agent: str
    budget: int | None
    printed: Mapping[str, str]
    source: str
    runs: tuple[Run, ...] = ()


@functools.cache
def _data() -> dict[str, Any]:
    return json.loads(resources.files("pipelines.environments.crafter").joinpath("published.json").read_text("utf-8"))


def publications() -> list[Published]:
    """All published rows, those who do not learn first."""
    return [
        Published(
            row["agent"],
            row["budget"],
            row["printed"],
            "; ".join(filter(None, (row["source"], row.get("runs_from", "")))),
            tuple(_run(each) for each in row.get("runs", ())),
        )
        for row in _data()["rows"]
    ]


def not_listed() -> list[str]:
    """Whose scores are not among them, with the reason."""
    return list(_data()["left_out"])


def _run(given: Mapping[str, Any]) -> Run:
    flags = [[mark == "1" for mark in given["reached"][name]] for name in ACHIEVEMENTS]
    return Run(np.array(given["returns"]), np.array(flags).T)
