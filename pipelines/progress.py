"""Progress of long work: a bar with rate and remaining time on a terminal, one line every few seconds elsewhere.

Use: `with progress.track("Collect Freeway", total=30_000, unit="frames") as advance: advance(512)`.
`say` prints a line above any running bar. Set WORLDLINE_QUIET=1 to print neither.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[..., None]  # advance(amount=1, note="", held=False)
LINE_EVERY_SECONDS = 15.0
BYTES = "bytes"  # the one unit that is shown as kB, MB or GB
console = Console(stderr=True)


def quiet() -> bool:
    """True when the user asked for silence (WORLDLINE_QUIET=1)."""
    return os.environ.get("WORLDLINE_QUIET", "") not in ("", "0")


def say(text: str) -> None:
    """One line for the person who waits."""
    if not quiet():
        console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def track(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how far a stage is. Yields `advance(amount=1, note="", held=False)`.

    `note` replaces the text right of the bar. What was `held` from an earlier run is done and makes no rate.
    """
    if quiet():
        yield lambda amount=1, note="", held=False: None
    elif console.is_terminal:
        with _bar(title, total, unit) as advance:
            yield advance
    else:
        yield _lines(title, total, unit)


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn() if unit == BYTES else MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} {task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as bars:
        task = bars.add_task(title, total=total, rate="", note="")
        started = time.monotonic()
        fresh = 0

        def advance(amount: int = 1, note: str = "", held: bool = False) -> None:
            nonlocal fresh
            fresh += 0 if held else max(amount, 0)
            rate = f"{_amount(fresh / max(time.monotonic() - started, 1e-6), unit)}/s"
            bars.update(task, advance=amount, rate=rate, note=note)

        yield advance


def _lines(title: str, total: int, unit: str) -> Advance:
    started = printed = time.monotonic()
    done = fresh = 0

    def advance(amount: int = 1, note: str = "", held: bool = False) -> None:
        nonlocal done, fresh, printed
        done += amount
        fresh += 0 if held else max(amount, 0)
        now = time.monotonic()
        ended = fresh and done >= total > done - amount  # when all was there already, there is nothing to say
        if now - printed >= LINE_EVERY_SECONDS or ended:
            printed = now
            rate = fresh / max(now - started, 1e-6)
            left = f"{max(total - done, 0) / rate:.0f} s left" if rate else "nothing came yet"
            of = f"{_amount(done, unit)} of {_amount(total, unit)}" if unit == BYTES else f"{done:,}/{total:,} {unit}"
            say(f"{title}: {of}, {_amount(rate, unit)}/s, {left} {note}".rstrip())

    return advance


def size(count: float) -> str:
    """So many bytes as a person reads them, in powers of ten: 4.2 kB, 14.8 MB, 7.06 GB."""
    if count >= 1e9:
        return f"{count / 1e9:,.2f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _amount(number: float, unit: str) -> str:
    return size(number) if unit == BYTES else f"{number:,.1f} {unit}"
