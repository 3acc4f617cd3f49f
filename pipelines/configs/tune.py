"""Config of the stage that searches for the settings which a planner plays best with."""

from dataclasses import dataclass
from typing import ClassVar

from pipelines.atari.protocols import canonical, protocol
from pipelines.configs.base import StageConfig, manner, option
from pipelines.configs.search import PLANNERS, GridConfig, SearchConfig
from pipelines.errors import UsageError, unknown
from pipelines.store.ref import Ref


@dataclass(frozen=True)
class TuneConfig(StageConfig):
    """Play every setting of `grid`, whose axes are all filled, on seeds that are never reported.

    The other fields are those of the evaluation that the best setting is for.
    """

    STAGE: ClassVar[str] = "tuned"
    CODE: ClassVar[str] = "1"

    game: str = ""
    checkpoint: Ref | None = None
    pretrained: Ref | None = None
    grid: GridConfig = GridConfig()  # noqa: RUF009 -- frozen
    protocol: str = "jowa"
    planner: str = "beam"
    epsilon: float = 0.001
    max_steps: int = 0
    precision: str = "auto"
    search: SearchConfig = option(SearchConfig())
    rom_md5: str = option("")
    rom_dir: str = manner("")
    envs: int = manner(0)

    def __post_init__(self) -> None:
        protocol(self.protocol)
        object.__setattr__(self, "protocol", canonical(self.protocol))
        if self.planner not in PLANNERS:
            raise unknown("planner", self.planner, PLANNERS, "'worldline evaluate --help' explains them")
        needed = ("contexts", "leaves") if self.planner == "greedy" else ("contexts", "widths", "horizons", "leaves")
        if empty := [name for name in needed if not getattr(self.grid, name)]:
            raise UsageError(f"A search for {self.planner} with no {empty[0]} is impossible: give at least one")

    @property
    def subject(self) -> str:
        return self.game
