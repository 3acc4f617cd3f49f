"""Crafter's own tables: our agents by what their episodes reached, beside those of the literature, a table a protocol.

Nothing of it stands in the ranking of Atari: a success rate of achievements and a human-normalised score of points say
nothing beside each other. Agents are ranked by Crafter's score, and only within a protocol, as it sets how much play an
agent may learn from; a published agent stands in the table of its budget, and humans and random play in every one. A
rank is as wide as the intervals leave it; rows that were printed without their episodes have none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.environments.crafter.game import ACHIEVEMENTS, GAME, PROTOCOLS, CrafterRules
from pipelines.environments.crafter.published import Published, not_listed, publications
from pipelines.evaluation.achievements import Measured, Reached, measured, of_table
from pipelines.leaderboard import benchmark
from pipelines.leaderboard.agent_scores import Sample
from pipelines.leaderboard.atari100k import not_own_play, played
from pipelines.leaderboard.benchmark import RANDOM, Own
from pipelines.leaderboard.score_row import ScoreRow


@dataclass(frozen=True, kw_only=True)
class Entrant(benchmark.Entrant):
    """One agent. `found` is what its episodes gave, None where only figures were printed."""

    found: Measured | None

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
    ours, left_out = benchmark.kept(samples, rows, (GAME,), PROTOCOLS, "Crafter")
    if not ours and not left_out:
        return None
    tables = [Table(name, _ranked(name, ours[name])) for name in PROTOCOLS if name in ours]
    return Crafter(tuple(tables), (*left_out, *not_listed()))


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


def _random(ours: Sequence[Own]) -> list[Entrant]:
    every = benchmark.random_play(ours)
    found = of_table(GAME, every)
    if found is None:
        return []
    return [
        Entrant(
            label=RANDOM, kind="ours", source="beside the agents above", found=found, episodes=len(every),
            unranked=benchmark.few(len(every)),
        )
    ]  # fmt: skip


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


def _ranked(protocol: str, ours: Sequence[Own]) -> tuple[Entrant, ...]:
    """With their ranks, the highest score first; those without one in that order too, by what they printed."""
    rows = [*(_ours(*each) for each in ours), *_random(ours), *map(_claimed, _beside(protocol))]
    return benchmark.ranked(rows, lambda row: row.found.score if row.found else None, _height)


def _height(row: Entrant) -> float:
    if row.found is not None:
        return row.found.score.value
    return float(row.printed.get("score", "-1").partition("±")[0])


def _rules(protocol: str) -> CrafterRules:
    return PROTOCOLS[protocol]
