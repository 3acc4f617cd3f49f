"""Crafter's tables as files: crafter.csv with all digits, a part of leaderboard.md, and a picture a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.evaluation.achievements import Bounded
from pipelines.leaderboard import benchmark_files
from pipelines.leaderboard.benchmark_files import COUNTS, WHO, Section, Told, shown
from pipelines.leaderboard.crafter import Crafter, Entrant, Table
from pipelines.leaderboard.page import Picture, num, picture
from pipelines.plots.achievements import Rates, draw_rates
from pipelines.plots.scores import Value

HEAD = (*WHO, "Score", "Mean return", "Reached", *COUNTS)
MOST_DRAWN = 6  # agents whose bars one picture holds


def write_csv(found: Crafter, path: Path) -> None:
    """Each row of the tables: score, mean return and 22 success rates in percent, with intervals, and as printed."""
    figures = ("score", "return", *found.achievements)
    head = ["protocol", *benchmark_files.HEAD, "score_published", "return_published", *benchmark_files.named(figures)]

    def lines() -> Iterator[list[Any]]:
        for table in found.tables:
            for row in table.rows:
                own = [_figure(row, name) or (None, None, None) for name in figures]
                printed = [row.printed.get(name) for name in ("score", "return")]
                yield [
                    table.protocol,
                    *benchmark_files.columns(row),
                    *printed,
                    *(value for each in own for value in each),
                ]

    benchmark_files.write_csv(path, head, lines())


def _figure(row: Entrant, name: str) -> Bounded | None:
    if row.found is None:
        return None
    own = {"score": row.found.score, "return": row.found.returns}
    return own.get(name) or row.found.rates[name]


def told(found: Crafter) -> Told:
    """For leaderboard.json and leaderboard.md, without success rates in the latter."""
    sections = tuple(
        Section(f"Crafter, {table.title}", HEAD, tuple(_cells(row) for row in table.rows)) for table in found.tables
    )
    return Told("crafter", found, sections, found.left_out)


def _cells(row: Entrant) -> tuple[str, ...]:
    reached = num(None) if row.found is None else f"{row.reached} of {len(row.found.rates)}"
    figures = (shown(_figure(row, name), row.printed.get(name, "")) for name in ("score", "return"))
    return benchmark_files.cells(row, (*figures, reached))


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
