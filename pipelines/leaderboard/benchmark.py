"""What the tables of benchmarks apart from Atari's share: whose scores stand in them, random play, and ranks.

Crafter's (`crafter`) and Meta-world's (`metaworld`) are such tables. Nothing of one is compared with another's, and
within one only what was played under one protocol, in one version of the packages. Run: `worldline report`.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import pandas as pd

from pipelines.evaluation.achievements import Bounded
from pipelines.leaderboard.agent_scores import Sample
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.leaderboard.statistics import LEAST, Interval, ranks

RANDOM = "Random play, measured here"


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One agent in a table. `printed` holds figures as they were published, by name.

    `steps` is what it played to learn; None for who does not learn, and where that is not known.
    """

    label: str
    kind: Literal["ours", "published"]
    source: str
    steps: int | None = None
    seeds: int | None = None
    episodes: int | None = None
    unranked: str = ""
    printed: Mapping[str, str] = field(default_factory=dict)
    rank: tuple[int, int] | None = None


Own = tuple[Sample, ScoreRow]
Row = TypeVar("Row", bound=Entrant)


def kept(
    samples: Sequence[Sample], rows: Sequence[ScoreRow], games: Collection[str], protocols: Collection[str], whose: str
) -> tuple[dict[str, list[Own]], list[str]]:
    """Our scores of `games` by protocol, and why others of these games are left out; `rows` are the samples' own.

    Only those of the newest packages stand: in others the games may be other ones. `whose` names the benchmark.
    """
    found: dict[str, list[Own]] = {}
    left_out = []
    newest = max((row.emulator for row in rows if row.game in games), key=_versions, default="")
    for sample, row in zip(samples, rows, strict=True):
        if sample.game not in games:
            continue
        who = sample.agent if len(games) == 1 else f"{sample.agent} ({sample.game})"
        plain = row.protocol.partition("+")[0]  # under noise it is another benchmark
        if row.protocol not in protocols:
            known = "under noise" if plain in protocols else f"none of {whose}'s"
            left_out.append(f"{who}: it was evaluated under protocol {row.protocol}, {known}")
        elif row.emulator != newest:
            where = row.emulator or "a version that it does not name"
            left_out.append(f"{who}: it was played in {where}, others in {newest}: evaluate it again")
        else:
            found.setdefault(row.protocol, []).append((sample, row))
    return found, left_out


def _versions(emulator: str) -> list[int]:
    """The numbers in the names of packages, in order: 1.10 is newer than 1.9."""
    return [int(number) for number in re.findall(r"\d+", emulator)]


def random_play(ours: Sequence[Own]) -> pd.DataFrame:
    """Episodes of random play beside all these agents, each seed once."""
    tables = [sample.episodes[sample.episodes["planner"] == "random"] for sample, _ in ours]
    return pd.concat(tables, ignore_index=True).drop_duplicates("seed")


def few(episodes: int) -> str:
    """Why so many episodes have no rank; empty where they are enough."""
    return "" if episodes >= LEAST else f"fewer than {LEAST} episodes"


def ranked(
    rows: Sequence[Row], score: Callable[[Row], Bounded | None], height: Callable[[Row], float]
) -> tuple[Row, ...]:
    """With their ranks by the intervals of `score`; first by `height`, who has a rank before others."""
    bounds = {id(row): _interval(score(row)) for row in rows if not row.unranked}
    sure = [row for row in rows if bounds.get(id(row)) is not None]
    places = ranks([bound for row in sure if (bound := bounds[id(row)]) is not None]) if len(sure) > 1 else []
    placed = {id(row): place for row, place in zip(sure, places, strict=False)}
    found = [replace(row, rank=placed.get(id(row))) for row in rows]
    return tuple(sorted(found, key=lambda row: (row.rank is None, -height(row))))


def _interval(found: Bounded | None) -> Interval | None:
    if found is None or found.low is None or found.high is None:
        return None
    return Interval(found.value, found.low, found.high)
