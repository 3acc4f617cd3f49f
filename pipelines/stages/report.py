"""Stage `leaderboard`: scores and all that stands behind them, as one page, as tables and as plots.

Writes index.html (self-contained), leaderboard.csv (a row an agent and game), aggregates.csv (a row an agent),
improvements.csv, profiles.csv, published.csv (what others printed of their agents, recomputed), leaderboard.json (all
of them) and .md (all but the profiles), references.csv (who played for HNS and DNS), origins.csv (every replay object
or ROM behind every score), aggregates.png, profiles.png, scores.png; where the collection was recorded, quality.png;
where an agent learned from its own play, atari100k.csv and atari100k.png; where one was scored in Crafter, crafter.csv
and a picture of success rates for each of its protocols, in Meta-world metaworld.csv and one for each of its tables.
Run: `worldline report`.
"""

from dataclasses import dataclass
from typing import ClassVar

from pipelines.errors import UsageError
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig
from pipelines.store.store import Store


@dataclass(frozen=True)
class ReportConfig(StageConfig):
    """One page from `scores`; `names[i]` is the experiment that `scores[i]` belongs to."""

    STAGE: ClassVar[str] = "leaderboard"
    VERB: ClassVar[str] = "report"
    CODE: ClassVar[str] = "10"
    CHECKS: ClassVar[tuple[str, ...]] = ("agents_see",)

    scores: tuple[Ref, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.scores:
            raise UsageError("A leaderboard of no scores is impossible: evaluate at least one experiment first")
        if len(self.scores) != len(self.names):
            raise UsageError(
                f"{len(self.scores)} scores and {len(self.names)} experiment names do not match: give one name a score"
            )
        for ref in self.scores:
            if ref.stage != "scores":
                raise UsageError(f"'{ref}' cannot stand on the leaderboard: give addresses that begin with scores/")

    @property
    def subject(self) -> str:
        return "all"


def run(config: ReportConfig, store: Store) -> Report:
    """Make the leaderboard of `config.scores`, or find it.

    Raises WorldlineError when a score is missing or damaged; what else is missing stands on the page as not measured.
    """
    from pipelines.leaderboard.site import build  # matplotlib and pandas are imported where a page is made

    def fill(draft: Draft) -> None:
        build([(name, draft.parents[ref]) for name, ref in zip(config.names, config.scores, strict=True)], store, draft)

    return store.produce(config.spec(), fill)
