"""The page: one HTML file that needs no network and nothing beside it; 0.1 s and 0.3 MB for two games.

Every text passes jinja2's autoescape: names and addresses come from manifests that strangers may have written. The
page's policy lets no script run but its own, which sorts tables, and nothing load from anywhere. How the page and the
tables write numbers is here too: a dash when not measured, a real minus, an interval in brackets.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.evaluation.player_settings import told_of
from pipelines.leaderboard.atari100k import Atari100k
from pipelines.leaderboard.crafter import Crafter
from pipelines.leaderboard.metaworld import Metaworld
from pipelines.leaderboard.provenance import Cost, Data, Origin, Sight, Training
from pipelines.leaderboard.ranking import CLAIMED, Comparison, Reproduction
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.store.artefact import Artefact

NOT_MEASURED, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
TEMPLATE = "leaderboard.html.j2"
EMBED_UP_TO = 3 << 20  # bytes; a larger picture is named, not embedded, so that the page stays mailable
MIME = {".png": "image/png", ".gif": "image/gif", ".webp": "image/webp", ".mp4": "video/mp4"}
VP9 = 'video/mp4; codecs="vp09.00.10.08"'  # profile 0, level 1, 8 bits: what pipelines/evaluation/film.py writes
MOST_CARDS = 12
SCRIPT = "leaderboard.js.j2"


@dataclass(frozen=True)
class Picture:
    """`source` is a data URI, or "" when the file was too large to embed."""

    source: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Film:
    """An episode. `source`, `poster` and `instead` are data URIs or "": the film, a still of it, and an animation for
    browsers that cannot play it. `link` leads to the file, as long as the page lies in its store.
    """

    caption: str
    source: str
    poster: str
    instead: str
    link: str

    @property
    def moves(self) -> bool:
        """Whether it is a video and no image."""
        return self.source.startswith("data:video/")


@dataclass(frozen=True)
class Trail:
    """Where the newest score of a pool comes from. `tree` is HTML that is escaped already; `others` are the addresses
    of the earlier scores in the pool.
    """

    origin: Origin
    tree: Markup
    others: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Everything the template shows. `curves` are filed by the training artefact's address."""

    rows: Sequence[ScoreRow]
    blocks: Sequence[Comparison]
    claims: Sequence[Reproduction]
    atari100k: Atari100k | None
    atari100k_plot: Picture | None
    crafter: Crafter | None
    crafter_plots: Sequence[Picture]
    metaworld: Metaworld | None
    metaworld_plots: Sequence[Picture]
    aggregate_plot: Picture
    profile_plot: Picture | None
    score_plot: Picture
    films: Sequence[Film]
    sights: Sequence[Sight]
    sheets: Sequence[Picture]
    trainings: Sequence[Training]
    curves: dict[str, list[Picture]]
    data: Sequence[Data]
    quality_plot: Picture | None
    costs: Sequence[Cost]
    faults: Sequence[str]
    trails: Sequence[Trail]
    libraries: dict[str, str]
    machine: dict[str, Any]
    commits: Sequence[str]
    newest: str

    @property
    def leads(self) -> list[ScoreRow]:
        """The first row of every sample, which gets a card of its own; none where they would fill the page.

        Where a whole evaluation stands, limited ones have no card.
        """
        first: dict[tuple[str, ...], ScoreRow] = {}
        for row in [row for row in self.ours if not row.limits] or self.ours:
            first.setdefault((row.agent, *row.sources), row)
        return list(first.values()) if len(first) <= MOST_CARDS else []

    @property
    def ours(self) -> list[ScoreRow]:
        """The rows that were measured here."""
        return [row for row in self.rows if row.kind == "ours"]

    @property
    def by_game(self) -> list[ScoreRow]:
        """Our rows, and the published ones of the games that we scored; game by game."""
        games = dict.fromkeys(row.game for row in self.ours)
        return [row for game in games for row in self.rows if row.game == game]

    @property
    def planners_told(self) -> str:
        """What the planners of our rows do, and what it means where a search loses."""
        return told_of({row.planner for row in self.ours})

    @property
    def published(self) -> dict[str, dict[str, ScoreRow]]:
        """Published rows by agent and planner, then by game."""
        found: dict[str, dict[str, ScoreRow]] = {}
        for row in self.rows:
            if row.kind == "published":
                name = row.agent if row.planner == "not stated" else f"{row.agent}, {row.planner}"
                found.setdefault(name, {})[row.game] = row
        return found

    @property
    def anchors(self) -> dict[str, str]:
        """Where on the page the lineage of a score stands, by the score's address."""
        return {
            address: f"lineage-{place}"
            for place, trail in enumerate(self.trails)
            for address in (trail.origin.score, *trail.others)
        }

    def places(self, row: ScoreRow) -> list[str]:
        """The anchors of a row's scores, one a training run."""
        return list(dict.fromkeys(self.anchors[source] for source in row.sources if source in self.anchors))

    @property
    def several_seeds(self) -> dict[str, tuple[str, ...]]:
        """The experiments of every agent that stands on more than one training run."""
        return {row.agent: row.experiments for row in self.ours if len(row.runs) > 1}


def render(page: Page) -> str:
    """The HTML text."""
    environment = Environment(
        loader=PackageLoader("pipelines.leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = (num, percent, whole, megabytes, clock, fixed, ranking, span)
    environment.filters |= {write.__name__: write for write in shown}
    script = environment.get_template(SCRIPT).render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(TEMPLATE).render(
        page=page, script=Markup(script), digest=digest, vp9=VP9, claimed=CLAIMED
    )


def picture(path: Path, alt: str, caption: str, up_to: int = EMBED_UP_TO) -> Picture:
    """An image or video file as a data URI; of more than `up_to` bytes only its name."""
    raw = path.read_bytes()
    if len(raw) > up_to:
        return Picture("", alt, f"{caption} (not embedded: {len(raw) / 1e6:.1f} MB, see {path.name} in the artefact)")
    return Picture(data_uri(raw, path.suffix), alt, caption)


def data_uri(file: Path | bytes, suffix: str = "") -> str:
    """A file, or bytes of the kind that `suffix` names, to be written into the page."""
    raw, kind = (file, suffix) if isinstance(file, bytes) else (file.read_bytes(), file.suffix)
    return f"data:{MIME[kind]};base64,{base64.b64encode(raw).decode()}"


def pictures_of(artefact: Artefact, prefix: str, suffix: str) -> list[tuple[str, Path]]:
    """(what stands between prefix and suffix, path) of every such file of the artefact."""
    return [
        (name[len(prefix) : -len(suffix)], artefact.path(name))
        for name in artefact.names()
        if name.startswith(prefix) and name.endswith(suffix) and len(name) >= len(prefix) + len(suffix)
    ]


# ---- how numbers are written ----


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


def fixed(value: float | None) -> str:
    """A normalised score: three decimals, as papers print them."""
    return NOT_MEASURED if value is None else f"{value:,.3f}".replace("-", MINUS)


def ranged(value: float | None, low: float | None, high: float | None, write: Callable[[float | None], str]) -> str:
    """A value with its interval in brackets, "0.847 [0.790, 0.908]"; the value alone where there is none."""
    if value is None or low is None or high is None:
        return write(value)
    return f"{write(value)} [{write(low)}, {write(high)}]"


def ranking(rank: tuple[int, int] | None) -> str:
    """ "2", or "1 to 3" where intervals overlap; empty without a rank."""
    if rank is None:
        return ""
    best, worst = rank
    return str(best) if best == worst else f"{best} to {worst}"


def span(ends: tuple[int, int] | None) -> str:
    """ "16", or "8 to 16"; "unknown" without a count."""
    if ends is None:
        return "unknown"
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
