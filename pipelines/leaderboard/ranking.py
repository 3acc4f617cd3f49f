"""The ranking: each agent summed up over its games, in blocks of agents that can be compared.

A block holds the agents that played the same games under the same protocol, on the same ROMs, for the same number of
episodes. Only agents with an interval have a rank, and the rank is as wide as the intervals leave it. What others
printed of their agents stands apart, without ranks: `reproductions` puts it beside what the same raw scores give here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, cached_property
from itertools import combinations, pairwise
from statistics import median
from typing import Literal

import numpy as np

from pipelines.environments.atari.reference_scores import Against, Claim, claims, normalised, reference
from pipelines.leaderboard.drift import Conditions
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.leaderboard.statistics import (
    Interval,
    Profile,
    Scores,
    intervals,
    performance_profile,
    points,
    probability_of_improvement,
    ranks,
)

AGAINST: tuple[Against, ...] = ("human", "dqn")

MOST_NAMED = 4  # games that a heading names one by one

MOST_PAIRED = 6  # agents of which every pair is compared; of more, each with the next in rank

THRESHOLDS = 200

HIGHEST_THRESHOLD = 8.0  # times the human score

CLAIMED: dict[tuple[Against, str], str] = {  # the aggregates that others print, and what they call them
    ("human", "mean"): "Mean HNS",
    ("human", "median"): "Median HNS",
    ("human", "iqm"): "IQM HNS",
    ("dqn", "iqm"): "IQM DNS",
}

Mark = Literal["yes", "no", "no raw seeds", "nothing published"]


@dataclass(frozen=True)
class AgentSummary:
    """One agent over its games. `human` and `dqn` hold the aggregates of statistics.STATISTICS over normalised scores,
    empty where no game has a reference; `human_intervals` and `dqn_intervals` are empty where they cannot be told.

    `rows` are the agent's rows, one a game. `without_human` and `without_dqn` list the games that no such score is
    known of. `unranked` says why there is no rank, `aside` what else was measured of the agent and is not in the
    numbers, or contradicts them.
    """

    agent: str
    planner: str
    kind: str
    source: str
    rows: tuple[ScoreRow, ...]
    human: Mapping[str, float]
    human_intervals: Mapping[str, Interval]
    dqn: Mapping[str, float]
    dqn_intervals: Mapping[str, Interval]
    median_share: float | None
    without_human: tuple[str, ...]
    without_dqn: tuple[str, ...]
    unranked: str
    aside: tuple[str, ...] = ()
    rank: tuple[int, int] | None = None

    @property
    def left_out(self) -> list[str]:
        """The games that count in no normalised score, a line for each reference that they lack."""
        asked = (("human", "HNS", self.without_human), ("DQN", "DNS", self.without_dqn))
        return [
            f"No {name} score is known of {', '.join(games)}: left out of every {short} above."
            for name, short, games in asked
            if games
        ]

    @property
    def label(self) -> str:
        """Agent and planner in a word or two."""
        return self.agent if self.planner == "not stated" else f"{self.agent}, {self.planner}"

    @property
    def limited(self) -> bool:
        """Whether a game was evaluated under limits: the aggregates then are no result."""
        return any(row.limits for row in self.rows)

    @property
    def seeds(self) -> tuple[int, int] | None:
        """Fewest and most training runs of a game; None where unknown."""
        known = [row.seeds for row in self.rows if row.seeds is not None]
        return (min(known), max(known)) if len(known) == len(self.rows) else None

    @property
    def episodes(self) -> tuple[int, int]:
        """Fewest and most episodes of a game, those of all runs together."""
        counts = [row.episodes for row in self.rows]
        return min(counts), max(counts)

    @property
    def evaluations(self) -> int:
        """How many evaluations were pooled, of the game that has most."""
        return max(row.evaluations for row in self.rows)

    @property
    def conditions(self) -> dict[str, Conditions]:
        """Per game, what must be equal in two agents that are compared."""
        return {row.game: row.conditions for row in self.rows}

    def scores(self, against: Against) -> Scores:
        """Normalised score of every episode, by game and run, of the games with that reference."""
        return {row.game: _normalised(row, against) for row in self.rows if _known(row, against)}


@dataclass(frozen=True)
class Improvement:
    """P(an episode of `better` scores above one of `worse`), averaged over `games`; `better` stands higher."""

    better: str
    worse: str
    probability: Interval
    games: int


@dataclass(frozen=True)
class Comparison:
    """Agents that can be compared, best first; `apart` says why they cannot be compared with the block above."""

    title: str
    standings: tuple[AgentSummary, ...]
    apart: str = ""

    @cached_property
    def improvements(self) -> list[Improvement]:
        """Ranked agents against each other on raw returns: every pair of a few, of many each against the next."""
        ranked = [standing for standing in self.standings if standing.rank]
        pairs = combinations(ranked, 2) if len(ranked) <= MOST_PAIRED else pairwise(ranked)
        found = []
        for better, worse in pairs:
            ours: Scores = {row.game: row.runs for row in better.rows}
            theirs: Scores = {row.game: row.runs for row in worse.rows}
            probability, games = probability_of_improvement(ours, theirs)
            found.append(Improvement(better.label, worse.label, probability, games))
        return found

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """Performance profiles of human-normalised scores, of the agents with intervals and without limits."""
        known = [standing for standing in self.standings if standing.human_intervals and not standing.limited]
        found = {standing.label: standing.scores("human") for standing in known}
        if not found:
            return {}
        top = max(max(run) for games in found.values() for runs in games.values() for run in runs.values())
        tau_X = np.linspace(0.0, max(1.5, min(top, HIGHEST_THRESHOLD)), THRESHOLDS).tolist()
        return {label: performance_profile(games, tau_X) for label, games in found.items()}

    @property
    def seeds_differ(self) -> bool:
        """Whether ranked agents stand on different numbers of training runs: their intervals cover different luck."""
        return len({standing.seeds for standing in self.standings if standing.rank}) > 1


@dataclass(frozen=True)
class Reproduction:
    """What was printed of an agent beside the same aggregates of its raw scores, by statistics.py.

    `human` and `dqn` hold the latter, empty where no scores were released or a game lacks the reference; there are
    intervals where the scores are of seeds or episodes.
    """

    claim: Claim
    human: Mapping[str, float]
    human_intervals: Mapping[str, Interval]
    dqn: Mapping[str, float]
    dqn_intervals: Mapping[str, Interval]

    @property
    def mark(self) -> Mark:
        """Whether every printed figure follows from the raw scores; a game's mean alone is none."""
        if not self.claim.scores or self.claim.unit == "game":
            return "no raw seeds"
        if not self.pairs:
            return "nothing published"
        return "no" if self.differences else "yes"

    @property
    def pairs(self) -> list[tuple[Against, str, str, float]]:
        """Reference, statistic, figure as printed, and what the scores give; where both are there."""
        return [
            (against, name, self.claim.figures[against][name], getattr(self, against)[name])
            for against, name in CLAIMED
            if name in self.claim.figures.get(against, {}) and name in getattr(self, against)
        ]

    @property
    def differences(self) -> list[str]:
        """Both figures, of each that differs by more than one unit of the last digit that was printed."""
        return [
            f"{CLAIMED[against, name]} {printed} published, {ours:.{_digits(printed)}f} recomputed"
            for against, name, printed, ours in self.pairs
            if abs(ours - float(printed)) > 1.001 * 10.0 ** -_digits(printed)
        ]

    @property
    def seeds(self) -> int | None:
        """Training seeds a game behind the scores; None where unknown."""
        return max(map(len, self.claim.scores.values())) if self.claim.scores and self.claim.unit == "seed" else None


@cache
def reproductions(benchmark: str = "") -> tuple[Reproduction, ...]:
    """Every published claim, or those of one benchmark, recomputed. Raises UsageError for an unknown benchmark."""
    return tuple(reproduced(claim) for claim in claims(benchmark))


def reproduced(claim: Claim) -> Reproduction:
    """The claim beside the aggregates that its raw scores give."""
    human, dqn = ({} if not claim.scores else _recomputed(claim, against) for against in AGAINST)
    bounded = claim.unit != "game"
    return Reproduction(
        claim,
        {name: found.value for name, found in human.items()},
        human if bounded else {},
        {name: found.value for name, found in dqn.items()},
        dqn if bounded else {},
    )


def _recomputed(claim: Claim, against: Against) -> dict[str, Interval]:
    if any(getattr(reference(game), against, None) is None for game in claim.scores):
        return {}  # over other games than were asked for, it would be another figure
    return intervals(
        {
            game: {run: [normalised(game, value, against) for value in values] for run, values in runs.items()}
            for game, runs in claim.scores.items()
        }
    )


def _digits(printed: str) -> int:
    """Digits after the point."""
    return max(0, -int(Decimal(printed).as_tuple().exponent))


def blocks(rows: Sequence[ScoreRow]) -> list[Comparison]:
    """Every agent in its block: ours first, whole evaluations before limited ones, then the published ones."""
    agents: dict[tuple[str, str, str, str], dict[str, list[ScoreRow]]] = {}
    for row in rows:
        mine = agents.setdefault((row.kind, row.agent, row.planner, row.protocol), {})
        mine.setdefault(row.game, []).append(row)
    groups: dict[frozenset[tuple[str, Conditions]], list[AgentSummary]] = {}
    for found in agents.values():
        standing = _standing(found)
        groups.setdefault(frozenset(standing.conditions.items()), []).append(standing)
    made: list[Comparison] = []
    in_order = sorted(groups.values(), key=lambda found: (found[0].kind != "ours", all(each.limited for each in found)))
    for members in in_order:
        ranked = _ranked(members)
        made.append(Comparison(_title(ranked), tuple(ranked), _apart(made[-1].standings[0], ranked[0]) if made else ""))
    return made


def _standing(measured: Mapping[str, Sequence[ScoreRow]]) -> AgentSummary:
    """Of a game that was measured in several ways, the row without limits and with most episodes counts."""
    rows, aside = [], []
    for game, found in measured.items():
        best, *others = sorted(found, key=lambda row: (bool(row.limits), -row.episodes))
        rows.append(best)
        aside += [f"not pooled ({game}): {row.apart}" for row in found if row.apart]
        aside += [f"pooled and yet contradicted ({game}): {row.drift}" for row in found if row.drift]
        aside += [f"not pooled: {game} with {_told(row)}; here with {_told(best)}" for row in others]
    return replace(_summed_up(tuple(rows)), aside=tuple(aside))


def _told(row: ScoreRow) -> str:
    """What tells a row from others of the same agent, planner and protocol."""
    parts = (
        row.settings,
        row.emulator,
        row.rom_md5 and f"ROM {row.rom_md5[:8]}",
        f"{row.episodes} episode{'' if row.episodes == 1 else 's'}",
        row.limits,
    )
    return ", ".join(filter(None, parts))


def _summed_up(rows: tuple[ScoreRow, ...]) -> AgentSummary:
    unranked = "; ".join(dict.fromkeys(row.unranked for row in rows if row.unranked))
    no_human, no_dqn = (tuple(row.game for row in rows if not _known(row, name)) for name in AGAINST)
    shares = [row.share for row in rows if row.share is not None]
    human, human_intervals = _aggregates(rows, "human")
    dqn, dqn_intervals = _aggregates(rows, "dqn")
    return AgentSummary(
        agent=rows[0].agent,
        planner=rows[0].planner,
        kind=rows[0].kind,
        source="; ".join(rows[0].sources),
        rows=rows,
        human=human,
        human_intervals=human_intervals,
        dqn=dqn,
        dqn_intervals=dqn_intervals,
        median_share=median(shares) if shares else None,
        without_human=no_human,
        without_dqn=no_dqn,
        unranked=unranked or ("no game with a human score" if len(no_human) == len(rows) else ""),
    )


def _aggregates(rows: Sequence[ScoreRow], against: Against) -> tuple[dict[str, float], dict[str, Interval]]:
    """Aggregates of the published or measured means, and intervals where every game has episodes enough for one."""
    known = [row for row in rows if _known(row, against) and row.mean is not None]
    if not known:
        return {}, {}
    if any(row.low is None for row in known):
        # A published mean may be rounded, but it is all there is.
        means = [(row.game, row.mean) for row in known if row.mean is not None]
        return points({game: {"": [normalised(game, mean, against)]} for game, mean in means}), {}
    found = intervals({row.game: _normalised(row, against) for row in known})
    return {name: interval.value for name, interval in found.items()}, found


def _normalised(row: ScoreRow, against: Against) -> dict[str, list[float]]:
    return {run: [normalised(row.game, value, against) for value in returns] for run, returns in row.runs.items()}


def _known(row: ScoreRow, against: Against) -> bool:
    known = reference(row.game)
    return known is not None and getattr(known, against) is not None


def _ranked(members: Sequence[AgentSummary]) -> list[AgentSummary]:
    """Ranked ones first, highest IQM of human-normalised scores first; a block with one of them needs no rank."""
    ranked = [standing for standing in members if not standing.unranked]
    places = (
        ranks([standing.human_intervals["iqm"] for standing in ranked]) if len(ranked) > 1 else [None] * len(ranked)
    )
    found = [replace(standing, rank=place) for standing, place in zip(ranked, places, strict=True)]
    found += [standing for standing in members if standing.unranked]
    return sorted(found, key=lambda standing: (bool(standing.unranked), -standing.human.get("iqm", float("-inf"))))


def _title(standings: Sequence[AgentSummary]) -> str:
    rows = standings[0].rows
    names = [row.game for row in rows]
    games = ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} games"
    counts = [count for row in rows for count in row.conditions.episodes]
    low, high = min(counts), max(counts)
    count = f"{low}" if low == high else f"{low} to {high}"
    seeds = " and training seed" if any((standing.seeds or (1, 1))[1] > 1 for standing in standings) else ""
    roms = "ROM recorded" if all(row.rom_md5 for row in rows) else "ROM not recorded"
    return f"{games}, protocol {rows[0].protocol}, {count} episode{'' if high == 1 else 's'} a game{seeds}, {roms}"


def _apart(above: AgentSummary, below: AgentSummary) -> str:
    """Why two blocks cannot be compared."""
    ours, theirs = above.conditions, below.conditions
    said = []
    if set(ours) != set(theirs):
        both = len(set(ours) & set(theirs))
        said.append(f"other games ({len(theirs)} against {len(ours)}, {both or 'none'} in common)")
    first, second = next(iter(ours)), next(iter(theirs))
    shared = [game for game in ours if game in theirs]
    pairs = [(ours[game], theirs[game]) for game in shared] or [(ours[first], theirs[second])]
    for mine, other in pairs:
        # ROMs of two different games differ anyway: that is no news.
        said += [why for why in other.differences(mine) if shared or why != "another ROM"]
    return "; ".join(dict.fromkeys(said))
