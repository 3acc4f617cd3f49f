"""From a recipe to the exact config of every stage: which artefacts it consists of, before any of them exists.

Keys are hashes of configs and parents' keys, so the whole chain is known in advance. The plan knows no stage by name:
a config's fields declare its parents (`store.stage_config.parent`), and the plan fills them by recursion.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from functools import cache
from typing import Any

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.clients import LOCAL, protocol
from pipelines.environments.registry import check_game, require_replay
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph import table
from pipelines.graph.recipe import Recipe
from pipelines.graph.table import PLANNED, Stage
from pipelines.store.profile import Profile
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Parent, Spec, StageConfig


@dataclass(frozen=True)
class Step:
    """One artefact of a plan: a stage with its partition."""

    stage: str
    game: str | None = None
    agent: int | None = None

    def __str__(self) -> str:
        return "/".join(str(part) for part in (self.stage, self.game, self.agent) if part is not None)


class Plan:
    """The chain of one recipe. `bucket` is the replay root URL that recipes with source "bucket" read, with the options
    of `profile`. It is listed once for each game and agent: all configs of one plan agree on what it holds.

    `made` tells of a step which artefact an experiment goes on with: its name means what was made, not what the recipe
    would make today. Only a step that was not made needs the bucket.

    Raises UsageError for a recipe whose stages do not fit each other.
    """

    def __init__(
        self,
        recipe: Recipe,
        bucket: str | None = None,
        profile: Profile | None = None,
        made: Callable[[Step], Ref | None] = lambda step: None,
    ) -> None:
        self.recipe = recipe
        self.bucket = bucket
        self.profile = profile
        self.made = cache(made)
        self._listed: dict[tuple[str, int], str] = {}
        self._configs: dict[Step, StageConfig] = {}
        self.rows = tuple(row for row in PLANNED if self._has(row))
        if not self.rows:
            raise UsageError(f"Recipe '{recipe.name}' consists of no stage: give it at least one template")
        self._needed = self._closure()
        needed = {step.stage for step in self._needed}
        self.rows = tuple(row for row in self.rows if row.name in needed)
        for row in self.rows:
            self._template(row.name).check_beside(self)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of this recipe, in order."""
        return tuple(row.name for row in self.rows)

    def games(self, stage: str) -> tuple[str, ...]:
        """The games of a stage, in the recipe's order; none for a stage that is not per game."""
        return tuple(dict.fromkeys(step.game for step in self._needed if step.stage == stage and step.game))

    @property
    def every_game(self) -> tuple[str, ...]:
        """All games that any stage is about."""
        return tuple(dict.fromkeys(step.game for step in self._needed if step.game))

    def steps(self, until: str = "") -> list[Step]:
        """All steps up to and including stage `until` (the last one), parents before children.

        Raises UsageError for a stage that the recipe does not have.
        """
        until = until or self.stages[-1]
        table.stage(until)
        if until not in self.stages:
            raise UsageError(
                f"Stage '{until}' is not in recipe '{self.recipe.name}': it consists of {', '.join(self.stages)}"
            )
        last = self.stages.index(until)
        return [step for step in self._needed if self.stages.index(step.stage) <= last]

    def config(self, step: Step) -> StageConfig:
        """The resolved config of a step, parents' keys included. Raises UsageError for what the recipe lacks."""
        if step not in self._configs:
            table.stage(step.stage)
            if step.game:
                check_game(step.game)
            if step.stage not in self.stages:
                raise UsageError(
                    f"Stage '{step.stage}' is not in recipe '{self.recipe.name}': it has {', '.join(self.stages)}"
                )
            template = self._template(step.stage)
            self._configs[step] = template.fill(self._values(template, step), self)
        return self._configs[step]

    def ref(self, step: Step) -> Ref:
        """The artefact of a step: what was made, or what the recipe would make. Raises UsageError as `config`."""
        return self.made(step) or self.config(step).spec().ref

    def would_make(self, step: Step) -> Spec | None:
        """What the recipe would make of a step from the parents that the plan has.

        None where only a source could say: a remote one is not asked for what stands, a local one may not answer.
        """
        reads = self.recipe.source == "bucket" and self._template(step.stage).filled_by("source")
        if reads and not (self.bucket and protocol(self.bucket) in LOCAL):
            return None
        try:
            return self.config(step).spec()
        except WorldlineError:
            return None

    def but(self, recipe: Recipe) -> "Plan":
        """The plan of another recipe, with those artefacts that are made the same way: not the evaluations."""
        own = ("name", "seed", "source", "games", "agents")
        alike = all(getattr(self.recipe, name) == getattr(recipe, name) for name in own)
        kept = {
            row.name
            for row in PLANNED
            if alike and row.kind != "evaluation" and self.recipe.template(row.verb) == recipe.template(row.verb)
        }
        return Plan(recipe, self.bucket, self.profile, lambda step: self.made(step) if step.stage in kept else None)

    def agent_of(self, step: Step) -> Ref:
        """The agent that a step starts from or plays with. Raises UsageError where the recipe makes none."""
        config: Any = self.config(step)
        if config.agent is None:
            raise UsageError(f"Recipe '{self.recipe.name}' makes no agent for {step}: it has {', '.join(self.stages)}")
        return config.agent

    @property
    def layout(self) -> str:
        """The layout of the bucket, which the profile names."""
        return (self.profile or Profile("")).layout

    # ---- what configs may ask: `store.stage_config.Beside` ----

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    @property
    def source(self) -> str:
        """Where its data come from."""
        return self.recipe.source

    @property
    def agents(self) -> tuple[int, ...]:
        """The agents whose replay it reads."""
        return self.recipe.agents

    def template(self, verb: str) -> StageConfig | None:
        """A stage's settings in the recipe."""
        return self.recipe.template(verb)

    def listed(self, game: str, agent: int, how: Mapping[str, Any]) -> dict[str, str]:
        """The bucket with its layout, and the digest of its listing of one agent."""
        from pipelines.sources.source import Run, digest, source_of

        require_replay(game)
        if not self.bucket:
            raise UsageError(
                f"Recipe '{self.recipe.name}' reads {game}/{agent} from a bucket but the storage profile names none: "
                "set replay_root in it, or give the one that does with --storage"
            )
        if (game, agent) not in self._listed:
            bucket = Bucket.of(self.bucket, self.profile)
            objects = source_of(self.layout).list_objects(bucket, Run(game, agent, **how))
            self._listed[game, agent] = digest(objects)
        return {"url": self.bucket, "listing": self._listed[game, agent], "layout": self.layout}

    def parents(self, step: Step) -> set[Step]:
        """The steps that a step is made from."""
        return {each for _, steps in self._parents(step) for each in steps}

    # ---- inside ----

    def _has(self, row: Stage) -> bool:
        template = self.recipe.template(row.verb)
        return template is not None and template.wanted and (not row.source or self.recipe.source in row.source.split())

    def _template(self, stage: str) -> StageConfig:
        template = self.recipe.template(table.stage(stage).verb)
        assert template is not None, "only stages that the recipe has are asked for"
        return template

    def _closure(self) -> list[Step]:
        """The steps of the last stage with all that they are made from, in the order of table, games and agents."""
        games = [*self.recipe.games]
        for row in self.rows:
            if (only := self._template(row.name).only_game) and only not in games:
                games.append(only)
        found: set[Step] = set()
        queue = self._of(self.rows[-1])
        while queue:
            step = queue.pop()
            if step not in found:
                found.add(step)
                queue += [each for _, parents in self._parents(step, soft=False) for each in parents]

        def place(step: Step) -> tuple[int, int, int]:
            return self.stages.index(step.stage), games.index(step.game) if step.game else -1, step.agent or 0

        return sorted(found, key=place)

    def _of(self, row: Stage) -> list[Step]:
        """All steps of a stage: of the recipe's games, or of the one that an earlier stage is about."""
        if not row.per_game:
            return [Step(row.name)]
        only = [self._template(each.name).only_game for each in self.rows[: self.rows.index(row) + 1]]
        games = next(((game,) for game in reversed(only) if game), self.recipe.games)
        agents = self.recipe.agents if row.per == "game agent" else (None,)
        return [Step(row.name, game, agent) for game in games for agent in agents]

    def _parents(self, step: Step, soft: bool = True) -> Iterator[tuple["Field[Any]", list[Step]]]:
        """By field of the step's config, the steps that it reads; fields whose stage the recipe lacks are left out.

        Soft parents count where they are made anyway, and not at all without `soft`.
        """
        template = self._template(step.stage)
        for entry in fields(template):  # type: ignore[arg-type]
            wanted = entry.metadata.get("parent")
            if wanted is not None and wanted.when and not getattr(template, wanted.when):
                continue
            if wanted is None or (wanted.soft and not soft) or not (stage := self._stage_of(wanted, step)):
                continue
            found = self._steps_of(wanted, table.stage(stage), step)
            if not wanted.soft or all(each in self._needed for each in found):
                yield entry, found

    def _stage_of(self, wanted: Parent, step: Step) -> str:
        """The stage that a parent comes from, in this recipe; empty where there is none."""
        choices = table.before(step.stage, wanted.makes) if wanted.makes else (wanted.stage,)
        return next((name for name in choices if name in self.stages), "")

    def _steps_of(self, wanted: Parent, row: Stage, step: Step) -> list[Step]:
        agents = self.recipe.agents if wanted.every == "agent" else (step.agent,)
        games = self.recipe.games if wanted.every == "game" else (step.game,)
        if not row.per_game:
            return [Step(row.name)]
        return [Step(row.name, game, agent if "agent" in row.per else None) for game in games for agent in agents]

    def _values(self, template: StageConfig, step: Step) -> dict[str, Any]:
        """What the plan fills into a template."""
        own = {
            "game": step.game,
            "agent": step.agent,
            "name": self.recipe.name,
            "games": self.recipe.games,
            "seed": self.recipe.seed,
        }
        values: dict[str, Any] = {}
        for entry in fields(template):  # type: ignore[arg-type]
            if (by := entry.metadata.get("filled")) in own:
                values[entry.name] = own[by]
        for entry, parents in self._parents(step):
            if (named := getattr(template, entry.name)) and entry.metadata["parent"].given:
                raise UsageError(
                    f"Recipe '{self.recipe.name}' makes {parents[0]} itself: leave {template.VERB}.{entry.name} "
                    f"({named}) out"
                )
            refs = tuple(self.ref(parent) for parent in parents)
            values[entry.name] = refs if entry.metadata["parent"].every else refs[0]
        return values
