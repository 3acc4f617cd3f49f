"""Crafter's own tables: our agents by what their episodes reached, beside those of the literature, a table a protocol.

Nothing of it stands in the ranking of Atari: a success rate of achievements and a human-normalised score of points say
nothing beside each other. Agents are ranked by Crafter's score, and only within a protocol, as it sets how much play an
agent may learn from; a published agent stands in the table of its budget, and humans and random play in every one. A
rank is as wide as the intervals leave it; rows that were printed without their episodes have none.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from pipelines.environments.crafter.game import ACHIEVEMENTS, GAME, PROTOCOLS, CrafterRules
from pipelines.environments.crafter.published import Published, not_listed, publications
from pipelines.evaluation.achievements import Bounded, Measured, Reached, measured, of_table
from pipelines.leaderboard.agent_scores import Sample
from pipelines.leaderboard.atari100k import not_own_play, played
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.leaderboard.statistics import LEAST, Interval, ranks

RANDOM = "Random play, measured here"


@dataclass(frozen=True)
class Entrant:
    """One agent. `found` is what its episodes gave, None where only figures were `printed`.

    `steps` is what it played to learn, of published rows their budget; None for who does not learn.
    """

    label: str
    kind: Literal["ours", "published"]
    source: str
    found: Measured | None
    steps: int | None = None
    seeds: int | None = None
    episodes: int | None = None
    unranked: str = ""
    printed: Mapping[str, str] = field(default_factory=dict)
    rank: tuple[int, int] | None = None

    @property
    def reached(self) -> int:
        """How many achievements any of its episodes reached."""
        return sum(rate.value > 0 for rate in self.found.rates.values()) if self.found else 0


@dataclass(frozen=True)
class Table:
    """The agents under one protocol, ranked ones first."""

    protocol: str
    rows: tuple[Entrant, ...]

    @property
    def title(self) -> str:
        """The protocol in words."""
        budget = _rules(self.protocol).budget
        return f"{self.protocol}: " + (f"at most {budget:,} steps of play" if budget else "no budget of play")

    @property
    def measured(self) -> list[Entrant]:
        """The rows whose episodes are known."""
        return [row for row in self.rows if row.found is not None]


@dataclass(frozen=True)
class Crafter:
    """`left_out` says whose scores are in no table, with the reason."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]
    achievements: tuple[str, ...] = ACHIEVEMENTS


def crafter(samples: Sequence[Sample], rows: Sequence[ScoreRow]) -> Crafter | None:
    """Our agents in Crafter beside the published ones; `rows` are the samples' own, one each. None without any."""
    ours: dict[str, list[Entrant]] = {}
    chance: dict[str, list[pd.DataFrame]] = {}
    left_out = []
    newest = max((row.emulator for row in rows if row.game == GAME), key=_versions, default="")
    for sample, row in zip(samples, rows, strict=True):
        if sample.game != GAME:
            continue
        plain = row.protocol.partition("+")[0]  # under noise it is another benchmark
        if row.protocol not in PROTOCOLS:
            known = "under noise" if plain in PROTOCOLS else "none of Crafter's"
            left_out.append(f"{sample.agent}: it was evaluated under protocol {row.protocol}, {known}")
            continue
        if row.emulator != newest:  # its worlds may be others
            where = row.emulator or "a version that it does not name"
            left_out.append(f"{sample.agent}: it was played in {where}, others in {newest}: evaluate it again")
            continue
        ours.setdefault(row.protocol, []).append(_ours(sample, row))
        chance.setdefault(row.protocol, []).append(sample.episodes[sample.episodes["planner"] == "random"])
    if not ours and not left_out:
        return None
    tables = [
        Table(name, _ranked([*ours[name], *_random(chance[name]), *map(_claimed, _beside(name))]))
        for name in PROTOCOLS
        if name in ours
    ]
    return Crafter(tuple(tables), (*left_out, *not_listed()))


def _versions(emulator: str) -> list[int]:
    """The numbers in the names of packages, in order: 1.10 is newer than 1.9."""
    return [int(number) for number in re.findall(r"\d+", emulator)]


def _ours(sample: Sample, row: ScoreRow) -> Entrant:
    found = of_table(GAME, sample.episodes[sample.episodes["planner"] == sample.planner], "run")
    steps = max(played(run.entry) for run in sample.runs)
    unknown = next(filter(None, (not_own_play(run.entry) for run in sample.runs)), "")
    budget = _rules(row.protocol).budget
    why = row.unranked
    if budget and steps > budget:
        why = f"it learned from {steps:,} steps of play, more than {budget:,}"
    elif budget and unknown:
        why = unknown
    elif found is None:
        why = "its episodes do not tell what they reached: evaluate it again"
    return Entrant(
        label=f"{row.agent}, {row.planner}",
        kind="ours",
        source="; ".join(row.sources),
        found=found,
        steps=steps or None,
        seeds=sample.seeds,
        episodes=row.episodes,
        unranked=why,
    )


def _random(tables: Sequence[pd.DataFrame]) -> list[Entrant]:
    """Random play beside all our agents, each seed once."""
    every = pd.concat(tables, ignore_index=True).drop_duplicates("seed")
    found = of_table(GAME, every)
    if found is None:
        return []
    why = "" if len(every) >= LEAST else f"fewer than {LEAST} episodes"
    return [Entrant(RANDOM, "ours", "beside the agents above", found, episodes=len(every), unranked=why)]


def _beside(protocol: str) -> Iterable[Published]:
    """The published rows of a protocol's table: those of its budget, and who does not learn."""
    budget = _rules(protocol).budget
    return (each for each in publications() if each.budget is None or each.budget == budget)


def _claimed(given: Published) -> Entrant:
    runs = [Reached(run.returns, run.reached) for run in given.runs]
    return Entrant(
        label=given.agent,
        kind="published",
        source=given.source,
        found=measured(runs, ACHIEVEMENTS) if runs else None,
        steps=given.budget,
        seeds=len(runs) or None,
        episodes=sum(len(run.returns) for run in runs) or None,
        unranked="" if runs else "printed without episodes, no interval",
        printed=given.printed,
    )


def _ranked(rows: Sequence[Entrant]) -> tuple[Entrant, ...]:
    """With their ranks, the highest score first; those without one in that order too, by what they printed."""
    bounds = {id(row): _interval(row.found.score) for row in rows if row.found is not None and not row.unranked}
    sure = [row for row in rows if bounds.get(id(row)) is not None]
    places = ranks([bound for row in sure if (bound := bounds[id(row)]) is not None]) if len(sure) > 1 else []
    placed = {id(row): place for row, place in zip(sure, places, strict=False)}
    found = [replace(row, rank=placed.get(id(row))) for row in rows]
    return tuple(sorted(found, key=lambda row: (row.rank is None, -_height(row))))


def _interval(found: Bounded) -> Interval | None:
    if found.low is None or found.high is None:
        return None
    return Interval(found.value, found.low, found.high)


def _height(row: Entrant) -> float:
    if row.found is not None:
        return row.found.score.value
    return float(row.printed.get("score", "-1").partition("±")[0])


def _rules(protocol: str) -> CrafterRules:
    return PROTOCOLS[protocol]
