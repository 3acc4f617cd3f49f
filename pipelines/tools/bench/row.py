"""One line of a benchmark's table: ours against theirs, measured in turns, and whether the aim is reached."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """`ratio` is how many times better ours is; `conditions` are further demands, by what they say."""

    name: str
    what: str
    against: str
    ours: str
    theirs: str
    ratio: float
    aim: float | None  # None where none was set
    cpu_ratio: float | None = None  # the same by CPU seconds, which a shared machine disturbs less
    conditions: tuple[tuple[str, bool], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reached(self) -> bool:
        """Whether the ratio and every condition are met."""
        return (self.aim is None or self.ratio >= self.aim) and all(met for _, met in self.conditions)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"reached": self.reached}


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table, with their conditions and notes below."""
    rows = list(rows)
    lines = [
        "| what | ours | against | theirs | ratio (by CPU) | aim | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        by_cpu = "" if row.cpu_ratio is None else f" ({row.cpu_ratio:.1f})"
        cells = (row.what, row.ours, row.against, row.theirs, f"{row.ratio:.1f}{by_cpu}")
        verdict = ("", "") if row.aim is None else (f"{row.aim:g}", "yes" if row.reached else "NO")
        lines.append(f"| {' | '.join((*cells, *verdict))} |")
    lines.append("")
    for row in rows:
        lines += [f"- {row.name}: {text}: {'met' if met else 'NOT MET'}" for text, met in row.conditions]
        lines += [f"- {row.name}: {text}" for text in row.notes]
    return "\n".join(lines)
