"""A complete run configuration: a name, games, a seed, and the templates of the stages that it consists of.

The stage configs inside are templates: the plan fills in game, parents and seed. A stage that has no template is not in
the plan. Recipes are functions that derive from each other by `Recipe.but`; overrides are `verb.field=value` (see
`config_io.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from models.limits import Seed
from pipelines.environments.registry import check_game, game_named
from pipelines.errors import UsageError, unknown
from pipelines.graph.table import BY_VERB, PLANNED
from pipelines.stages.collect import CollectConfig
from pipelines.stages.import_trajectories import ImportConfig, ShardsConfig
from pipelines.store.stage_config import StageConfig, require

BROUGHT: dict[str, type[StageConfig]] = {"imported": ImportConfig, "shards": ShardsConfig}  # by the source, its stage
SOURCES = ("collected", "bucket", *BROUGHT)
# Which setting of the recipe fills a field of a template, for the error of one who sets that field.
OWN = {"game": "games", "agent": "agents"}
Config = TypeVar("Config", bound=StageConfig)


@dataclass(frozen=True)
class Recipe:
    """`source` says where data comes from: played here ("collected"), read from the profile's bucket, imported, or
    streamed from shards.

    A template can be had by its verb: `recipe.pretrain`; None where the recipe has none. `recipe.of(PretrainConfig)` is
    the same with its type.
    """

    name: str
    games: tuple[str, ...]
    source: str = "collected"
    agents: tuple[int, ...] = (1, 2)
    seed: Seed = 0
    stages: tuple[StageConfig, ...] = ()

    def __post_init__(self) -> None:
        for source, kind in BROUGHT.items():
            if self.template(kind.VERB) is None and self.source == source:
                object.__setattr__(self, "stages", (*self.stages, kind()))
            if self.template(kind.VERB) is not None and self.source != source:
                raise UsageError(
                    f"Recipe '{self.name}' has {kind.VERB}, yet its source is {self.source}: set source={source} too"
                )
        object.__setattr__(self, "stages", _in_order(self.stages))
        object.__setattr__(self, "games", tuple(map(game_named, self.games)))
        require(self, "")
        for game in (each.only_game for each in self.stages if each.only_game):
            check_game(game)
        if not self.games or len(set(self.games)) != len(self.games):
            raise UsageError(f"Recipe '{self.name}' has games {self.games}: name at least one, each once")
        if self.source not in SOURCES:
            raise unknown("replay source", self.source, SOURCES, "'worldline recipe show NAME' prints each recipe's")
        if not self.agents or min(self.agents) < 1 or len(set(self.agents)) != len(self.agents):
            raise UsageError(f"Recipe '{self.name}' has agents {self.agents}: name at least one from 1 on, each once")
        for each in self.stages:
            _refuse_filled_in(each)
        collect = self.template(CollectConfig.VERB)
        if self.source == "collected" and isinstance(collect, CollectConfig) and max(self.agents) > collect.agents:
            raise UsageError(
                f"Recipe '{self.name}' reads agent {max(self.agents)} but collects only {collect.agents}: "
                "raise collect.agents or lower agents"
            )

    def __getattr__(self, verb: str) -> Any:
        if verb in BY_VERB:
            return self.template(verb)
        raise AttributeError(f"Recipe has no '{verb}': it has its own fields, and a template by the verb of each stage")

    def template(self, verb: str) -> StageConfig | None:
        """The template of a stage, None where the recipe has none."""
        return next((each for each in self.stages if verb == each.VERB), None)

    def of(self, kind: type[Config]) -> Config:
        """The template of this kind. Raises UsageError where the recipe has none."""
        found = self.template(kind.VERB)
        if not isinstance(found, kind):
            raise UsageError(f"Recipe '{self.name}' has no stage '{kind.STAGE}': it cannot be changed there")
        return found

    def but(self, **changes: Any) -> "Recipe":
        """A copy with other fields, or other templates by their verbs; None takes a stage out.

        Raises UsageError for a verb that no stage has.
        """
        own = {name: value for name, value in changes.items() if name in _OWN_FIELDS}
        others = {name: value for name, value in changes.items() if name not in own}
        for verb in others:
            if verb not in BY_VERB:
                raise unknown("stage's verb", verb, BY_VERB, "'worldline recipe show NAME' prints them")
        kept = [each for each in self.stages if each.VERB not in others]
        return replace(self, **own, stages=(*kept, *(each for each in others.values() if each is not None)))

    def latent(self) -> dict[str, StageConfig]:
        """The templates that other sources would bring, by their verbs: a change may set one along with the source."""
        return {kind.VERB: kind() for kind in BROUGHT.values() if self.template(kind.VERB) is None}

    def parts(self) -> dict[str, Any]:
        """Its own fields, then its templates by their verbs."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "stages"}
        return own | {each.VERB: each for each in self.stages}


_OWN_FIELDS = {entry.name for entry in fields(Recipe)}


def _in_order(stages: Iterable[StageConfig]) -> tuple[StageConfig, ...]:
    """In the order of the graph, so that equal recipes are equal however they were put together."""
    verbs = [row.verb for row in PLANNED]
    return tuple(sorted(stages, key=lambda each: verbs.index(each.VERB)))


def _refuse_filled_in(template: StageConfig) -> None:
    """Never let a setting that has no effect pass in silence."""
    for entry in fields(template):  # type: ignore[arg-type]
        by = entry.metadata.get("filled")
        if by and (value := getattr(template, entry.name)) != entry.default:
            raise UsageError(
                f"'{template.VERB}.{entry.name}' is {value} and has no effect, the plan fills it in: set the recipe's "
                f"'{OWN.get(by, by)}' instead"
            )
