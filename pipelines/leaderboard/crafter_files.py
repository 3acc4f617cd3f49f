"""Crafter's tables as files: crafter.csv with all digits, a part of leaderboard.md, and a picture a table."""

import csv
from pathlib import Path
from typing import Any

from pipelines.evaluation.achievements import Bounded
from pipelines.leaderboard.crafter import Crafter, Entrant, Table
from pipelines.leaderboard.page import Picture, num, picture, ranged, ranking, whole
from pipelines.plots.achievements import Rates, draw_rates
from pipelines.plots.scores import Value

HEAD = ("Rank", "Agent", "Kind", "Score", "Mean return", "Reached", "Steps played", "Seeds", "Episodes", "From")
MOST_DRAWN = 6  # agents whose bars one picture holds


def write_csv(found: Crafter, path: Path) -> None:
    """Each row of the tables: score, mean return and 22 success rates in percent, with intervals, and as printed."""
    figures = ("score", "return", *found.achievements)
    head = ["protocol", "agent", "kind", "source", "best_rank", "worst_rank", "unranked", "steps", "seeds", "episodes"]
    head += ["score_published", "return_published"]
    head += [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        for table in found.tables:
            for row in table.rows:
                line: list[Any] = [table.protocol, row.label, row.kind, row.source, *(row.rank or ("", ""))]
                line += [row.unranked, *("" if n is None else n for n in (row.steps, row.seeds, row.episodes))]
                line += [row.printed.get(name, "") for name in ("score", "return")]
                for name in figures:
                    line += ["" if value is None else value for value in _figure(row, name) or ("", "", "")]
                writer.writerow(line)


def _figure(row: Entrant, name: str) -> Bounded | None:
    if row.found is None:
        return None
    own = {"score": row.found.score, "return": row.found.returns}
    return own.get(name) or row.found.rates[name]


def cells(row: Entrant) -> tuple[str, ...]:
    """A row in words, below HEAD: without its success rates."""

    def shown(name: str) -> str:
        own = _figure(row, name)
        parts = [ranged(*own, num)] if own else []
        return "; ".join([*parts, *([f"{row.printed[name]} (published)"] if name in row.printed else [])]) or num(None)

    counts = (row.steps, row.seeds, row.episodes)
    reached = num(None) if row.found is None else f"{row.reached} of {len(row.found.rates)}"
    rank = ranking(row.rank) or f"not ranked: {row.unranked or 'nothing to compare with'}"
    return rank, row.label, row.kind, shown("score"), shown("return"), reached, *map(whole, counts), row.source


def plots(found: Crafter, folder: Path) -> tuple[Picture, ...]:
    """A picture of each table's success rates."""
    return tuple(_plot(table, folder / f"{table.protocol}.png") for table in found.tables if table.measured)


def _plot(table: Table, path: Path) -> Picture:
    drawn = table.measured[:MOST_DRAWN]
    agents = [
        Rates(row.label, {name: Value(*rate) for name, rate in row.found.rates.items()})
        for row in drawn
        if row.found is not None
    ]
    draw_rates(agents, path)
    alt = "; ".join(f"{row.label} score {row.found.score.value:.1f}" for row in drawn if row.found is not None)
    more = len(table.measured) - len(drawn)
    caption = (
        f"Crafter under {table.title}: share of episodes that reached each achievement, with 95% bootstrap intervals. "
        f"The axis is linear up to 1% and logarithmic above.{f' {more} more are in crafter.csv.' if more else ''}"
    )
    return picture(path, f"Success rates of Crafter's achievements. {alt}", caption)
