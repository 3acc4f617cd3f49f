"""A complete run configuration: every stage's config in one frozen value.

The stage configs inside are templates: the plan fills in game, parents and seed. Recipes are functions that derive
from each other by `dataclasses.replace`; overrides are `field.path=value` (see `config_io.py`).
"""

from dataclasses import dataclass, field

from pipelines.environments.registry import check_game
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import GridConfig
from pipelines.stages.collect import CollectConfig
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.stages.import_weights import ReleasedConfig
from pipelines.stages.segment import SegmentConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.store.stage_config import option
from pipelines.training.config import FinetuneConfig, PretrainConfig, TrainConfig

SOURCES = ("collected", "bucket")

# What the plan fills into the stages' configs from the recipe's own field: set in a template it would be ignored.
FILLED_IN = {
    "game": "games", "games": "games", "name": "name", "seed": "seed", "agent": "agents", "url": "source",
    "listing": "source",
}  # fmt: skip

OWN_SEED = ("collect", "downsample")


@dataclass(frozen=True)
class Recipe:
    """`source` says where replay comes from: played here ("collected") or read from the profile's bucket.

    With `released`, a checkpoint that was trained elsewhere takes the place of all training. With `finetune`, what was
    trained goes on learning on one game, which need not be among `games`, and plays that one. Where `tune` names
    settings to search over, evaluation's planner is tried with each of them first, and then plays with the best.
    """

    name: str
    games: tuple[str, ...]
    source: str = "collected"
    agents: tuple[int, ...] = (1, 2)
    collect: CollectConfig = field(default_factory=lambda: CollectConfig(game=""))
    fetch: FetchConfig = option(FetchConfig(game="", agent=0))
    downsample: DownsampleConfig = field(default_factory=lambda: DownsampleConfig(game=""))
    segment: SegmentConfig = field(default_factory=lambda: SegmentConfig(game=""))
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    tokenize: TokenizeConfig = field(default_factory=TokenizeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    seed: int = 0
    released: ReleasedConfig | None = option(None)
    finetune: FinetuneConfig | None = option(None)
    tune: GridConfig = option(GridConfig())

    def __post_init__(self) -> None:
        for game in (*self.games, *([self.finetune.game] if self.finetune else [])):
            check_game(game)
        if not self.games or len(set(self.games)) != len(self.games):
            raise UsageError(f"Recipe '{self.name}' has games {self.games}: name at least one, each once")
        if self.source not in SOURCES:
            raise UsageError(f"Replay source '{self.source}' is unknown: choose from {', '.join(SOURCES)}")
        if not self.agents or min(self.agents) < 1 or len(set(self.agents)) != len(self.agents):
            raise UsageError(f"Recipe '{self.name}' has agents {self.agents}: name at least one from 1 on, each once")
        self._refuse_filled_in()
        if self.source == "collected" and max(self.agents) > self.collect.agents:
            raise UsageError(
                f"Recipe '{self.name}' reads agent {max(self.agents)} but collects only {self.collect.agents}: "
                "raise collect.agents or lower agents"
            )

    def _refuse_filled_in(self) -> None:
        """Never let a setting that has no effect pass in silence."""
        for stage in ("collect", "fetch", "downsample", "segment", "pretrain", "tokenize", "train", "evaluate"):
            template = getattr(self, stage)
            for name, own in FILLED_IN.items():
                value = getattr(template, name, None)
                if value and not (name == "seed" and stage in OWN_SEED):
                    raise UsageError(
                        f"'{stage}.{name}' is {value} and has no effect, the plan fills it in: set the recipe's "
                        f"'{own}' instead"
                    )
