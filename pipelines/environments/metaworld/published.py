"""What others published of their agents in Meta-world: success rates by task after so many steps of play.

Data: published.json. They were measured in version 2 of the tasks, in an older MuJoCo, during training. Where a paper
prints curves alone and releases no numbers, it is named as not listed, and nothing is read off a plot.
Run: `python -c "from pipelines.environments.metaworld.published import publications; print(publications())"`.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Published:
    """One agent after `steps` of play in each task; `rates` by task, `mean` and `iqm` of all runs, all in percent.

    `runs` are trained in each task, and evaluated for `episodes` each.
    """

    agent: str
    steps: int
    rates: Mapping[str, float]
    mean: float
    iqm: float
    runs: int
    episodes: int
    source: str


@functools.cache
def _data() -> dict[str, Any]:
    return json.loads(resources.files("pipelines.environments.metaworld").joinpath("published.json").read_text("utf-8"))


def publications() -> list[Published]:
    """All published rows."""
    data = _data()
    return [
        Published(
            row["agent"],
            row["steps"],
            {task: _percent(rate) for task, rate in zip(data["tasks"], row["rates"], strict=True)},
            _percent(row["mean"]),
            _percent(row["iqm"]),
            data["runs"],
            data["episodes"],
            data["source"],
        )
        for row in data["rows"]
    ]


def not_listed() -> list[str]:
    """Whose success rates are not among them, with the reason."""
    return list(_data()["left_out"])


def _percent(fraction: float) -> float:
    """With the digits that the fraction has."""
    return round(100 * fraction, 1)
