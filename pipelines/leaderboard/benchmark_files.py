"""The tables of benchmarks apart from Atari's as text: what their lines of CSV and their cells share."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.evaluation.achievements import Bounded
from pipelines.leaderboard.benchmark import Entrant
from pipelines.leaderboard.page import num, ranged, ranking, whole

NAMES = ("crafter", "metaworld")  # of all such benchmarks, as leaderboard.json has them
HEAD = ("agent", "kind", "source", "best_rank", "worst_rank", "unranked", "steps", "seeds", "episodes")
WHO, COUNTS = ("Rank", "Agent", "Kind"), ("Steps played", "Seeds", "Episodes", "From")


@dataclass(frozen=True)
class Section:
    """One table of leaderboard.md."""

    title: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Told:
    """One benchmark: `found` under `name` in leaderboard.json, its sections of leaderboard.md, and who is left out."""

    name: str
    found: Any
    sections: tuple[Section, ...]
    left_out: tuple[str, ...]


def write_csv(path: Path, head: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """With all digits; what is None is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(["" if cell is None else cell for cell in line] for line in lines)


def named(names: Iterable[str]) -> list[str]:
    """The columns of figures: each with its bounds."""
    return [f"{name}{end}" for name in names for end in ("", "_low", "_high")]


def columns(row: Entrant) -> list[Any]:
    """A row's cells below HEAD."""
    ranks = row.rank or (None, None)
    return [row.label, row.kind, row.source, *ranks, row.unranked, row.steps, row.seeds, row.episodes]


def shown(found: Bounded | None, published: str = "") -> str:
    """A figure with its interval, and what was published of it."""
    parts = [ranged(*found, num)] if found else []
    return "; ".join([*parts, *([f"{published} (published)"] if published else [])]) or num(None)


def cells(row: Entrant, figures: Iterable[str]) -> tuple[str, ...]:
    """A row in words: below WHO, its figures, below COUNTS."""
    rank = ranking(row.rank) or f"not ranked: {row.unranked or 'nothing to compare with'}"
    return rank, row.label, row.kind, *figures, *map(whole, (row.steps, row.seeds, row.episodes)), row.source
