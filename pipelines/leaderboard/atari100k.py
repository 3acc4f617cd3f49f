"""Atari 100k: our agents that learned from at most 100,000 steps of their own play, beside those of the literature.

Figures over other games say nothing beside each other. So the 26 games of the benchmark are one table, and where an
agent of ours has played fewer, a table of its own sums the published raw scores up over the same games. Only rows of
one table are ranked with each other, as wide as the intervals of their IQMs leave it. What the groups did not share
(no-ops, ROMs, episodes, what a checkpoint is) a rank passes over: `claims` says it, row by row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from pipelines.environments.atari.reference_scores import claims
from pipelines.leaderboard.agent_scores import EPISODES, LEARNED, ORDER, Entry, Sample
from pipelines.leaderboard.ranking import AgentSummary, Mark, Reproduction, blocks, reproduced, reproductions
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.leaderboard.statistics import Interval, ranks

BENCHMARK = "Atari 100k"

STEPS = 100_000  # agent steps of its own play from which an agent may learn; 400,000 emulator frames

RULES = ("atari100k", "iris")  # protocols of the benchmark's papers, all without sticky actions

STORED = (*EPISODES, "imported_shards")  # stages that hold play which an agent has not made as it learned


@dataclass(frozen=True)
class Entrant:
    """One agent over the games of a table. `human` and `human_intervals` are as in `AgentSummary`.

    Ours: `protocol`, `steps` (most that it played of a game to learn) and `episodes` are ours, `mark` is "ours".
    Published: `printed` holds the figures as printed where the table is of all games, `mark` says whether they follow
    from the raw seeds, `differences` where they do not. `seeds` and `episodes` are the fewest and most of a game.
    """

    label: str
    kind: Literal["ours", "published"]
    source: str
    seeds: tuple[int, int] | None
    human: Mapping[str, float]
    human_intervals: Mapping[str, Interval]
    unranked: str
    mark: Mark | Literal["ours"] = "ours"
    protocol: str = ""
    steps: int | None = None
    episodes: tuple[int, int] | None = None
    printed: Mapping[str, str] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    rank: tuple[int, int] | None = None


@dataclass(frozen=True)
class Table:
    """Agents over the same games, ranked ones first."""

    games: tuple[str, ...]
    rows: tuple[Entrant, ...]

    @property
    def title(self) -> str:
        """Over which games."""
        every = games()
        if len(self.games) == len(every):
            return f"All {len(every)} games"
        return f"{len(self.games)} of {len(every)} games: {', '.join(self.games)}"

    @property
    def summed_up(self) -> list[Entrant]:
        """The rows whose raw scores are known."""
        return [row for row in self.rows if row.human]

    @property
    def seeds_differ(self) -> bool:
        """Whether ranked rows stand on different numbers of training runs: their intervals cover different luck."""
        return len({row.seeds for row in self.rows if row.rank}) > 1


@dataclass(frozen=True)
class Atari100k:
    """`tables` with all games first, then those of fewer; `left_out` says of our other agents why they are in none."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]


@cache
def games() -> tuple[str, ...]:
    """The benchmark's games, those of every released set of scores."""
    return tuple(sorted({game for claim in claims(BENCHMARK) for game in claim.scores}))


def atari100k(samples: Sequence[Sample], rows: Sequence[ScoreRow]) -> Atari100k:
    """Our agents beside the published ones; `rows` are the samples' own, one each."""
    kept: list[ScoreRow] = []
    steps: dict[tuple[str, ...], int] = {}
    left_out: dict[tuple[str, str], list[str]] = {}
    for sample, row in zip(samples, rows, strict=True):
        if why := "; ".join(dict.fromkeys(why for run in sample.runs for why in why_not(run.entry))):
            left_out.setdefault((sample.agent, why), []).append(sample.game)
        else:
            kept.append(row)
            steps[row.sources] = max(played(run.entry) for run in sample.runs)
    ours: dict[tuple[str, ...], list[Entrant]] = {games(): []}
    for block in blocks(kept):
        for standing in block.standings:
            played_games = tuple(sorted(row.game for row in standing.rows))
            most = max(steps[row.sources] for row in standing.rows)
            ours.setdefault(played_games, []).append(_ours(standing, most))
    in_order = sorted(ours, key=lambda names: (-len(names), names))
    return Atari100k(
        tuple(Table(names, _ranked([*ours[names], *_published(names)])) for names in in_order),
        tuple(f"{agent} ({', '.join(dict.fromkeys(on))}): {why}" for (agent, why), on in left_out.items()),
    )


def why_not(entry: Entry) -> list[str]:
    """Why a score is none of the benchmark's, a reason each; empty where it is one."""
    found = [why] if (why := not_own_play(entry)) else []
    steps = played(entry)
    if steps > STEPS:
        found.append(f"it learned from {steps:,} agent steps of its own play, more than {STEPS:,}")
    if (protocol := str(entry.score.manifest.config.get("protocol", ""))) not in RULES:
        found.append(f"it was evaluated under protocol {protocol or 'not recorded'}, not {' or '.join(RULES)}")
    if entry.game not in games():
        found.append(f"{entry.game} is none of the {len(games())} games")
    return found


def not_own_play(entry: Entry) -> str:
    """Why nobody knows that an agent learned from its own play alone, and from how much; empty where that is known."""
    taught = [stage for stage in (*ORDER, "imported") if stage not in (LEARNED, "collected_replay") and entry.of(stage)]
    stored = [stage for stage in STORED if stage in taught]
    if entry.faults:
        return f"how it was trained cannot be told ({entry.faults[0]})"
    if stored:
        return f"it learned from stored play ({', '.join(stored)}), not from its own alone"
    if "imported" in taught:
        return "what it learned from is not recorded where it was imported"
    if taught:
        return f"its training is not its own play alone ({', '.join(taught)})"
    return "" if played(entry) else "no play that it learned from is recorded"


def played(entry: Entry) -> int:
    """Agent steps that its agent played to learn, those of the agents that it went on from too; 0 where none were."""
    return sum(int(found.manifest.counts.get("frames", 0)) for found in entry.of(LEARNED))


def _ours(standing: AgentSummary, steps: int) -> Entrant:
    return Entrant(
        label=standing.label,
        kind="ours",
        source=standing.source,
        seeds=standing.seeds,
        human=standing.human,
        human_intervals=standing.human_intervals,
        unranked=standing.unranked,
        protocol=standing.rows[0].protocol,
        steps=steps,
        episodes=standing.episodes,
        aside=standing.aside,
    )


def _published(names: tuple[str, ...]) -> list[Entrant]:
    """Every claim over these games: as printed and recomputed over all, recomputed alone over fewer."""
    whole = names == games()
    return [_claimed(row, names, whole) for row in reproductions(BENCHMARK) if whole or row.claim.scores]


def _claimed(row: Reproduction, names: tuple[str, ...], whole: bool) -> Entrant:
    claim = row.claim
    found = row if whole else reproduced(replace(claim, scores={name: claim.scores[name] for name in names}))
    return Entrant(
        label=claim.agent,
        kind="published",
        source=claim.source,
        seeds=(row.seeds, row.seeds) if row.seeds else None,
        human=found.human,
        human_intervals=found.human_intervals,
        unranked="" if found.human_intervals else f"{row.mark}, no interval",
        mark=row.mark,
        printed=claim.figures.get("human", {}) if whole else {},
        differences=tuple(row.differences) if whole else (),
    )


def _ranked(rows: Sequence[Entrant]) -> tuple[Entrant, ...]:
    """With their ranks, the highest IQM first, then those without one, in that order too."""
    sure = [row for row in rows if not row.unranked]
    places = ranks([row.human_intervals["iqm"] for row in sure])
    found = [replace(row, rank=place) for row, place in zip(sure, places, strict=True)]
    found += [row for row in rows if row.unranked]
    return tuple(sorted(found, key=lambda row: (bool(row.unranked), -row.human.get("iqm", float("-inf")))))
