"""The page: one HTML file that needs no network, no script and nothing beside it; 0.1 s and 0.1 MB for two games.

Every text passes jinja2's autoescape: names and addresses come from manifests that strangers may have written.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.leaderboard.headline import Headline, Summary
from pipelines.leaderboard.sight import Sight
from pipelines.leaderboard.sources import Cost, Data, Training
from pipelines.store.artefact import Artefact

TEMPLATE = "leaderboard.html.j2"
EMBED_UP_TO = 3 << 20  # bytes; a larger picture is named, not embedded, so that the page stays mailable
MIME = {".png": "image/png", ".gif": "image/gif"}
NOT_MEASURED, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Picture:
    """`source` is a data URI, or "" when the file was too large to embed."""

    source: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Page:
    """Everything the template shows. `curves` are filed by the training artefact's address; `lineage` holds (score's
    name, HTML fragment that is escaped already).
    """

    rows: Sequence[Headline]
    summaries: Sequence[Summary]
    score_plot: Picture
    videos: Sequence[Picture]
    sights: Sequence[Sight]
    sheets: Sequence[Picture]
    trainings: Sequence[Training]
    curves: dict[str, list[Picture]]
    data: Sequence[Data]
    quality_plot: Picture | None
    costs: Sequence[Cost]
    faults: Sequence[str]
    lineage: Sequence[tuple[str, Markup]]
    libraries: dict[str, str]
    machine: dict[str, Any]
    commits: Sequence[str]
    newest: str

    @property
    def leads(self) -> list[Headline]:
        """The first row of every score, which gets a card of its own."""
        first: dict[tuple[str, str], Headline] = {}
        for row in self.rows:
            first.setdefault((row.experiment, row.score), row)
        return list(first.values())


def render(page: Page) -> str:
    """The HTML text."""
    environment = Environment(
        loader=PackageLoader("pipelines", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"num": num, "percent": percent, "whole": whole, "megabytes": megabytes, "clock": clock}
    return environment.get_template(TEMPLATE).render(page=page)


def picture(path: Path, alt: str, caption: str) -> Picture:
    """An image file as a data URI."""
    raw = path.read_bytes()
    if len(raw) > EMBED_UP_TO:
        return Picture("", alt, f"{caption} (not embedded: {len(raw) / 1e6:.1f} MB, see {path.name} in the artefact)")
    return Picture(f"data:{MIME[path.suffix]};base64,{base64.b64encode(raw).decode()}", alt, caption)


def pictures_of(artefact: Artefact, prefix: str, suffix: str) -> list[tuple[str, Path]]:
    """(what stands between prefix and suffix, path) of every such file of the artefact."""
    return [
        (name[len(prefix) : -len(suffix)], artefact.path(name))
        for name in artefact.names()
        if name.startswith(prefix) and name.endswith(suffix) and len(name) >= len(prefix) + len(suffix)
    ]


def num(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, never fewer than its integer part; a dash when not measured."""
    if value is None:
        return NOT_MEASURED
    if value != 0 and abs(value) < 10.0**-digits:
        shown = f"{value:.{digits - 1}e}"
    elif abs(value) >= 10 ** (digits - 1):
        shown = f"{value:,.0f}"
    else:
        shown = f"{value:.{digits}g}"
    return shown.replace("-", MINUS)


def percent(value: float | None) -> str:
    """A fraction as whole percent."""
    return NOT_MEASURED if value is None else f"{100 * value:,.0f}%".replace("-", MINUS)


def whole(value: float | None) -> str:
    """A count with thousands separators."""
    return NOT_MEASURED if value is None else f"{value:,.0f}"


def megabytes(value: float | None) -> str:
    """Megabytes with two decimals; what is there but rounds to nothing is "< 0.01"."""
    if value is None:
        return NOT_MEASURED
    return "< 0.01" if 0 < value < 0.005 else f"{value:,.2f}"


def clock(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return NOT_MEASURED
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
