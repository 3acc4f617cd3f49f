"""Meta-world's own tables: our agents by how often they succeed in each task, beside what others published.

An episode succeeds where any of its steps does, and a success rate is the share of episodes that do, in percent. Agents
that played other tasks, or saw them under another protocol, say nothing beside each other: each protocol and set of
tasks is a table, in which agents are ranked by their mean over the tasks, as wide as the intervals leave it. These are
the stratified bootstrap over training runs and episodes of `statistics`, and so is the interquartile mean (IQM) of all
runs. Published rows stand beside, without a rank: they are of older versions of tasks and physics, and have no
intervals. What a rank passes over, such as how many steps an agent played, stands in its row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipelines.environments.metaworld.game import ACHIEVEMENTS, APV_TASKS, PROTOCOLS, TASKS
from pipelines.environments.metaworld.published import Published, not_listed, publications
from pipelines.evaluation.achievements import COLUMN, Bounded
from pipelines.leaderboard import benchmark
from pipelines.leaderboard.agent_scores import Sample
from pipelines.leaderboard.atari100k import played
from pipelines.leaderboard.benchmark import RANDOM, Own
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.leaderboard.statistics import Interval, Scores, intervals

SUCCESS = COLUMN + ACHIEVEMENTS[0]
CAMERA = "corner"  # of published rows
UNTOLD = "its episodes do not tell whether they succeeded: evaluate it again"
OTHER_VERSION = "published of version 2 of the tasks, without intervals"


@dataclass(frozen=True, kw_only=True)
class Entrant(benchmark.Entrant):
    """One agent over the tasks of a table. All are percents but `returns`, the mean return of an episode.

    `rates` is by task. Where figures were published alone, `rates` and `mean` have no interval: low and high are None.
    """

    rates: Mapping[str, Bounded] = field(default_factory=dict)
    mean: Bounded | None = None
    iqm: Bounded | None = None
    returns: Bounded | None = None


@dataclass(frozen=True)
class Table:
    """Agents that played the same tasks under one protocol, ranked ones first."""

    protocol: str
    tasks: tuple[str, ...]
    rows: tuple[Entrant, ...]

    @property
    def title(self) -> str:
        """Protocol and tasks in words."""
        if set(self.tasks) == set(APV_TASKS):
            return f"{self.protocol}: the {len(APV_TASKS)} tasks of APV"
        count = f"{len(self.tasks)} {'task' if len(self.tasks) == 1 else 'tasks'}"
        return f"{self.protocol}: {count}, {', '.join(self.tasks)}"

    @property
    def name(self) -> str:
        """Of its files: of protocol and tasks."""
        few = "-".join(self.tasks) if len(self.tasks) <= 2 else f"{self.tasks[0]}-and-{len(self.tasks) - 1}-more"
        return f"{self.protocol}_{'apv' if set(self.tasks) == set(APV_TASKS) else few}"

    @property
    def measured(self) -> list[Entrant]:
        """The rows whose episodes are known."""
        return [row for row in self.rows if row.returns is not None]


@dataclass(frozen=True)
class Metaworld:
    """`left_out` says whose scores are in no table, with the reason."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]


def metaworld(samples: Sequence[Sample], rows: Sequence[ScoreRow]) -> Metaworld | None:
    """Our agents in Meta-world beside the published ones; `rows` are the samples' own, one each. None without any."""
    ours, left_out = benchmark.kept(samples, rows, TASKS, PROTOCOLS, "Meta-world")
    if not ours and not left_out:
        return None
    tables = []
    for protocol in PROTOCOLS:
        by_tasks: dict[tuple[str, ...], list[list[Own]]] = {}
        for agent in _agents(ours.get(protocol, ())):
            by_tasks.setdefault(tuple(sorted(row.game for _, row in agent)), []).append(agent)
        for tasks in sorted(by_tasks, key=lambda names: (-len(names), names)):
            found = [*map(_ours, by_tasks[tasks]), *_random(by_tasks[tasks], tasks), *_beside(protocol, tasks)]
            tables.append(Table(protocol, tasks, benchmark.ranked(found, lambda row: row.mean, _height)))
    return Metaworld(tuple(tables), (*left_out, *not_listed()))


def _agents(ours: Sequence[Own]) -> list[list[Own]]:
    """An agent's scores in all its tasks, one a task; a second score of a task begins another row."""
    found: dict[tuple[str, str, str, int], list[Own]] = {}
    for sample, row in ours:
        who, again = (row.agent, row.planner, row.settings), 0
        while any(each.game == row.game for _, each in found.get((*who, again), ())):
            again += 1
        found.setdefault((*who, again), []).append((sample, row))
    return list(found.values())


def _ours(agent: Sequence[Own]) -> Entrant:
    rows = [row for _, row in agent]
    mine = {row.game: sample.episodes[sample.episodes["planner"] == sample.planner] for sample, row in agent}
    steps = max(played(run.entry) for sample, _ in agent for run in sample.runs)
    seeds = [row.seeds for row in rows]
    why = "; ".join(dict.fromkeys(f"{row.game}: {row.unranked}" for row in rows if row.unranked))
    return Entrant(
        label=f"{rows[0].agent}, {rows[0].planner}",
        kind="ours",
        source="; ".join(source for row in rows for source in row.sources),
        steps=steps or None,
        seeds=None if None in seeds else min(seed for seed in seeds if seed is not None),
        episodes=min(row.episodes for row in rows),
        **_figures(mine, why),
    )


def _figures(tables: Mapping[str, pd.DataFrame], why: str = "") -> dict[str, Any]:
    """What episodes with a column `run` give, by task, as fields of an `Entrant`; `why` it has no rank already."""
    if not all(SUCCESS in table and len(table) and table[SUCCESS].notna().all() for table in tables.values()):
        return {"unranked": UNTOLD}
    succeeded = _by_run(tables, lambda part: part[SUCCESS] > 0)
    returns = _by_run(tables, lambda part: part["return"])
    over, several = intervals(succeeded), {task: len(table) > 1 for task, table in tables.items()}
    return {
        "rates": {
            task: _bounded(intervals({task: runs})["mean"], several[task], 100) for task, runs in succeeded.items()
        },
        "mean": _bounded(over["mean"], all(several.values()), 100),
        "iqm": _bounded(over["iqm"], all(several.values()), 100),
        "returns": _bounded(intervals(returns)["mean"], all(several.values())),
        "unranked": why,
    }


def _by_run(tables: Mapping[str, pd.DataFrame], read: Callable[[pd.DataFrame], "pd.Series[Any]"]) -> Scores:
    """What `read` finds of every episode, by task and run."""
    return {
        task: {str(run): read(part).astype(float).tolist() for run, part in table.groupby("run")}
        for task, table in tables.items()
    }


def _bounded(found: Interval, several: bool, times: float = 1.0) -> Bounded:
    """The value, multiplied, and its bounds where several episodes tell of them."""
    value, low, high = times * found.value, times * found.low, times * found.high
    return Bounded(value, low, high) if several else Bounded(value)


def _random(agents: Sequence[Sequence[Own]], tasks: Sequence[str]) -> list[Entrant]:
    """Random play beside these agents, where it played every task."""
    ours = {task: [own for agent in agents for own in agent if own[1].game == task] for task in tasks}
    tables = {task: benchmark.random_play(each).assign(run="random") for task, each in ours.items()}
    fewest = min(map(len, tables.values()))
    if not fewest:
        return []
    found = _figures(tables, benchmark.few(fewest))
    return [Entrant(label=RANDOM, kind="ours", source="beside the agents above", episodes=fewest, **found)]


def _beside(protocol: str, tasks: Sequence[str]) -> list[Entrant]:
    """The published rows of all these tasks, of the protocol's camera; their means are over these tasks alone."""
    if PROTOCOLS[protocol].camera != CAMERA:
        return []
    return [_claimed(each, tasks) for each in publications() if set(tasks) <= set(each.rates)]


def _claimed(given: Published, tasks: Sequence[str]) -> Entrant:
    every = set(tasks) == set(given.rates)
    return Entrant(
        label=f"{given.agent}, {given.steps:,} steps",
        kind="published",
        source=given.source,
        steps=given.steps,
        seeds=given.runs,
        episodes=given.episodes,
        unranked=OTHER_VERSION,
        rates={task: Bounded(given.rates[task]) for task in tasks},
        mean=Bounded(given.mean if every else float(np.mean([given.rates[task] for task in tasks]))),
        iqm=Bounded(given.iqm) if every else None,
    )


def _height(row: Entrant) -> float:
    return row.mean.value if row.mean else -1.0
