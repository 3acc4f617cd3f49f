"""Meta-world's tables as files: metaworld.csv with all digits, a part of leaderboard.md, and a picture a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.environments.metaworld.game import TASKS
from pipelines.leaderboard import benchmark_files
from pipelines.leaderboard.benchmark_files import COUNTS, WHO, Section, Told, shown
from pipelines.leaderboard.metaworld import Entrant, Metaworld, Table
from pipelines.leaderboard.page import Picture, picture
from pipelines.plots.achievements import Rates, draw_rates
from pipelines.plots.scores import Value

SUMS = ("Mean success", "IQM", "Mean return")
MOST_DRAWN = 6  # agents whose bars one picture holds


def write_csv(found: Metaworld, path: Path) -> None:
    """Each row of the tables: mean and IQM of success, mean return, and each task's rate, with intervals."""
    played = {task for table in found.tables for task in table.tasks}
    tasks = [task for task in TASKS if task in played]
    figures = benchmark_files.named(("mean", "iqm", "return", *tasks))

    def lines() -> Iterator[list[Any]]:
        for table in found.tables:
            for row in table.rows:
                own = [row.mean, row.iqm, row.returns, *(row.rates.get(task) for task in tasks)]
                values = (value for each in own for value in each or (None, None, None))
                yield [table.protocol, " ".join(table.tasks), *benchmark_files.columns(row), *values]

    benchmark_files.write_csv(path, ["protocol", "tasks", *benchmark_files.HEAD, *figures], lines())


def told(found: Metaworld) -> Told:
    """For leaderboard.json and leaderboard.md."""
    return Told("metaworld", found, tuple(map(_section, found.tables)), found.left_out)


def _section(table: Table) -> Section:
    head = (*WHO, *SUMS, *table.tasks, *COUNTS)
    return Section(f"Meta-world, {table.title}", head, tuple(_cells(row, table) for row in table.rows))


def _cells(row: Entrant, table: Table) -> tuple[str, ...]:
    figures = (row.mean, row.iqm, row.returns, *(row.rates.get(task) for task in table.tasks))
    return benchmark_files.cells(row, map(shown, figures))


def plots(found: Metaworld, folder: Path) -> tuple[Picture, ...]:
    """A picture of each table's success rates."""
    return tuple(_plot(table, folder / f"{table.name}.png") for table in found.tables if table.measured)


def _plot(table: Table, path: Path) -> Picture:
    told = [row for row in table.rows if row.rates]
    drawn = told[:MOST_DRAWN]
    draw_rates([Rates(row.label, {name: Value(*rate) for name, rate in row.rates.items()}) for row in drawn], path, 100)
    alt = "; ".join(f"{row.label} mean {row.mean.value:.1f}" for row in drawn if row.mean)
    more = len(told) - len(drawn)
    caption = (
        f"Meta-world under {table.title}: share of episodes that succeed, with 95% bootstrap intervals where episodes "
        f"are known.{f' {more} more are in metaworld.csv.' if more else ''}"
    )
    return picture(path, f"Success rates of Meta-world's tasks. {alt}", caption)
