"""The ranking: each agent summed up over its games, in blocks of agents that can be compared.

A block holds the agents that played the same games under the same protocol, on the same ROMs, for the same number of
episodes. Only agents with an interval have a rank, and the rank is as wide as the intervals leave it.
Cost: 20 ms an agent with 15 games.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import median

from pipelines.atari.scores import Against, normalised, reference
from pipelines.leaderboard.conditions import Conditions
from pipelines.leaderboard.headline import Headline
from pipelines.leaderboard.statistics import (
    Interval,
    Scores,
    intervals,
    points,
    probability_of_improvement,
    ranks,
)

MOST_NAMED = 4  # games that a heading names one by one


@dataclass(frozen=True)
class Standing:
    """One agent over its games. `human` and `dqn` hold the aggregates of statistics.STATISTICS over normalised scores,
    empty where no game has a reference; `human_intervals` and `dqn_intervals` are empty where they cannot be told.

    `rows` are the agent's rows, one a game. `without_human` lists the games that no human score is known of.
    `unranked` says why there is no rank, in words.
    """

    agent: str
    planner: str
    kind: str
    source: str
    rows: tuple[Headline, ...]
    human: Mapping[str, float]
    human_intervals: Mapping[str, Interval]
    dqn: Mapping[str, float]
    dqn_intervals: Mapping[str, Interval]
    median_share: float | None
    without_human: tuple[str, ...]
    unranked: str
    rank: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """Agent and planner in a word or two."""
        return self.agent if self.planner == "not stated" else f"{self.agent}, {self.planner}"

    @property
    def limited(self) -> bool:
        """Whether a game was evaluated under limits: the aggregates then are no result."""
        return any(row.limits for row in self.rows)

    @property
    def seeds(self) -> int | None:
        """Training runs behind it; None where unknown."""
        known = [row.seeds for row in self.rows if row.seeds is not None]
        return min(known) if len(known) == len(self.rows) else None

    @property
    def episodes(self) -> tuple[int, int]:
        """Fewest and most episodes of a game."""
        counts = [row.episodes for row in self.rows]
        return min(counts), max(counts)

    @property
    def conditions(self) -> dict[str, Conditions]:
        """Per game, what must be equal in two agents that are compared."""
        return {row.game: row.conditions for row in self.rows}

    def scores(self, against: Against) -> dict[str, list[float]]:
        """Normalised score of every episode, by game, of the games with that reference."""
        return {
            row.game: [normalised(row.game, value, against) for value in row.returns]
            for row in self.rows
            if _known(row, against)
        }


@dataclass(frozen=True)
class Improvement:
    """P(an episode of `better` scores above one of `worse`), averaged over `games`; ranks next to each other."""

    better: str
    worse: str
    probability: Interval
    games: int


@dataclass(frozen=True)
class Block:
    """Agents that can be compared, best first; `apart` says why they cannot be compared with the block above."""

    title: str
    standings: tuple[Standing, ...]
    apart: str = ""

    @cached_property
    def improvements(self) -> list[Improvement]:
        """Each ranked agent against the next one, on raw returns."""
        ranked = [standing for standing in self.standings if standing.rank]
        found = []
        for better, worse in pairwise(ranked):
            ours: Scores = {row.game: row.returns for row in better.rows}
            theirs: Scores = {row.game: row.returns for row in worse.rows}
            probability, games = probability_of_improvement(ours, theirs)
            found.append(Improvement(better.label, worse.label, probability, games))
        return found


def blocks(rows: Sequence[Headline]) -> list[Block]:
    """Every agent in its block: ours first, then the published ones."""
    agents: dict[tuple[str, str, str, str], dict[str, Headline]] = {}
    for row in rows:
        mine = agents.setdefault((row.kind, row.experiment, row.planner, row.protocol), {})
        if row.game not in mine or row.episodes >= mine[row.game].episodes:  # scored twice: the larger sample counts
            mine[row.game] = row
    groups: dict[frozenset[tuple[str, Conditions]], list[Standing]] = {}
    for found in agents.values():
        standing = _standing(tuple(found.values()))
        groups.setdefault(frozenset(standing.conditions.items()), []).append(standing)
    made: list[Block] = []
    for members in groups.values():
        ranked = _ranked(members)
        made.append(Block(_title(ranked[0]), tuple(ranked), _apart(made[-1].standings[0], ranked[0]) if made else ""))
    return made


def _standing(rows: tuple[Headline, ...]) -> Standing:
    unranked = "; ".join(dict.fromkeys(row.unranked for row in rows if row.unranked))
    no_human = tuple(row.game for row in rows if not _known(row, "human"))
    shares = [row.share for row in rows if row.share is not None]
    human, human_intervals = _aggregates(rows, "human")
    dqn, dqn_intervals = _aggregates(rows, "dqn")
    return Standing(
        agent=rows[0].experiment,
        planner=rows[0].planner,
        kind=rows[0].kind,
        source=rows[0].source,
        rows=rows,
        human=human,
        human_intervals=human_intervals,
        dqn=dqn,
        dqn_intervals=dqn_intervals,
        median_share=median(shares) if shares else None,
        without_human=no_human,
        unranked=unranked or ("no game with a human score" if len(no_human) == len(rows) else ""),
    )


def _aggregates(rows: Sequence[Headline], against: Against) -> tuple[dict[str, float], dict[str, Interval]]:
    """Aggregates of the published or measured means, and intervals where every game has episodes enough for one."""
    known = [row for row in rows if _known(row, against) and row.mean is not None]
    if not known:
        return {}, {}
    # Of an agent that was measured, the mean of the episodes counts; a published mean may be rounded.
    means = {row.game: [normalised(row.game, row.mean, against)] for row in known if row.mean is not None}
    if any(row.low is None for row in known):
        return points(means), {}
    found = intervals({row.game: [normalised(row.game, value, against) for value in row.returns] for row in known})
    return {name: interval.value for name, interval in found.items()}, found


def _known(row: Headline, against: Against) -> bool:
    known = reference(row.game)
    return known is not None and getattr(known, against) is not None


def _ranked(members: Sequence[Standing]) -> list[Standing]:
    """Ranked ones first, highest IQM of human-normalised scores first; a block with one of them needs no rank."""
    ranked = [standing for standing in members if not standing.unranked]
    places = (
        ranks([standing.human_intervals["iqm"] for standing in ranked]) if len(ranked) > 1 else [None] * len(ranked)
    )
    found = [replace(standing, rank=place) for standing, place in zip(ranked, places, strict=True)]
    found += [standing for standing in members if standing.unranked]
    return sorted(found, key=lambda standing: (bool(standing.unranked), -standing.human.get("iqm", float("-inf"))))


def _title(standing: Standing) -> str:
    first = standing.rows[0]
    names = [row.game for row in standing.rows]
    games = ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} games"
    low, high = standing.episodes
    count = f"{low}" if low == high else f"{low} to {high}"
    roms = "ROM recorded" if all(row.rom_md5 for row in standing.rows) else "ROM not recorded"
    return f"{games}, protocol {first.protocol}, {count} episode{'' if high == 1 else 's'} a game, {roms}"


def _apart(above: Standing, below: Standing) -> str:
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
