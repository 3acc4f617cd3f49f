"""Config of the leaderboard: which scores stand on the page, and under which names."""

from dataclasses import dataclass
from typing import ClassVar

from pipelines.configs.base import StageConfig
from pipelines.errors import UsageError
from pipelines.store.ref import Ref


@dataclass(frozen=True)
class ReportConfig(StageConfig):
    """One page from `scores`; `names[i]` is the experiment that `scores[i]` belongs to."""

    STAGE: ClassVar[str] = "leaderboard"
    CODE: ClassVar[str] = "4"
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
