"""Progress of long work: a bar with rate and remaining time on a terminal, one line every few seconds elsewhere.

Use: `with progress.track("Collect Freeway", total=30_000, unit="frames") as advance: advance(512)`.
`say` prints a line above any running bar. Set WORLDLINE_QUIET=1 to print neither.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from pipelines.redact import redact

Advance = Callable[..., None]  # advance(amount=1, note="", held=False)
LINE_EVERY_SECONDS = 15.0
BYTES = "bytes"  # the one unit that is shown as kB, MB or GB
console = Console(stderr=True)
WIDE = 500  # columns of what is written into a file or a pipe: nothing is cut there


def printer() -> Console:
    """For tables on standard output: as wide as the terminal, and in a file or a pipe as wide as they are."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def quiet() -> bool:
    """True when the user asked for silence (WORLDLINE_QUIET=1)."""
    return os.environ.get("WORLDLINE_QUIET", "") not in ("", "0")


def say(text: str) -> None:
    """One line for the person who waits."""
    if not quiet():
        console.print(redact(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def track(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how far a stage is. Yields `advance(amount=1, note="", held=False)`.

    `note` replaces the text right of the bar. What was `held` from an earlier run is done: it makes no rate, and the
    time left is that of the rest at the rate of what came since.
    """
    if quiet():
        yield lambda amount=1, note="", held=False: None
    elif console.is_terminal:
        with _bar(title, total, unit) as advance:
            yield advance
    else:
        yield _lines(title, total, unit)


@dataclass
class _Pace:
    """How much of `total` is done, how much of that is `fresh`, the work of this call, and since when."""

    total: int
    started: float
    done: int = 0
    fresh: int = 0

    def add(self, amount: int, held: bool) -> None:
        self.done += amount
        self.fresh += 0 if held else max(amount, 0)

    @property
    def rate(self) -> float:
        """A second."""
        return self.fresh / max(time.monotonic() - self.started, 1e-6)

    @property
    def left(self) -> float | None:
        """Seconds; None where nothing came yet."""
        return max(self.total - self.done, 0) / self.rate if self.fresh else None


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    columns = (  # where the terminal is narrow, rate and note give way, then the bar; count and times stay
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=24)),
        DownloadColumn() if unit == BYTES else MofNCompleteColumn(),
        TextColumn(
            "{task.fields[rate]} {task.fields[note]}", table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")
        ),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", style="progress.remaining"),
    )
    with Progress(*columns, console=console, refresh_per_second=4, expand=True) as bars:
        task, pace = bars.add_task(title, total=total, rate="", note="", left="-:--:--"), _Pace(total, time.monotonic())

        def advance(amount: int = 1, note: str = "", held: bool = False) -> None:
            pace.add(amount, held)
            left = "-:--:--" if pace.left is None else str(timedelta(seconds=round(pace.left)))
            bars.update(task, advance=amount, rate=f"{_amount(pace.rate, unit)}/s", note=note, left=left)

        yield advance


def _lines(title: str, total: int, unit: str) -> Advance:
    pace = _Pace(total, time.monotonic())
    printed = pace.started

    def advance(amount: int = 1, note: str = "", held: bool = False) -> None:
        nonlocal printed
        pace.add(amount, held)
        now, done = time.monotonic(), pace.done
        ended = pace.fresh and done >= total > done - amount  # when all was there already, there is nothing to say
        if now - printed >= LINE_EVERY_SECONDS or ended:
            printed = now
            left = "nothing came yet" if pace.left is None else f"{pace.left:.0f} s left"
            of = f"{_amount(done, unit)} of {_amount(total, unit)}" if unit == BYTES else f"{done:,}/{total:,} {unit}"
            say(f"{title}: {of}, {_amount(pace.rate, unit)}/s, {left} {note}".rstrip())

    return advance


def size(count: float) -> str:
    """So many bytes as a person reads them, in powers of ten: 4.2 kB, 14.8 MB, 7.06 GB."""
    if count >= 1e9:
        return f"{count / 1e9:,.2f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _amount(number: float, unit: str) -> str:
    return size(number) if unit == BYTES else f"{number:,.1f} {unit}"
