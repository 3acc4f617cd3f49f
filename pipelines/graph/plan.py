"""From a recipe to the exact config of every stage: which artefacts it consists of, before any of them exists.

Keys are hashes of configs and parents' keys, so the whole chain is known in advance; `steps` lists it in order.
"""

from dataclasses import dataclass, replace
from typing import Any

from pipelines.bucket.bucket import Bucket
from pipelines.environments.registry import check_game
from pipelines.errors import UsageError, unknown
from pipelines.evaluation.player_settings import TUNED_FIELDS
from pipelines.graph.recipe import Recipe
from pipelines.sources.dqn_replay import listing
from pipelines.stages.collect import CollectConfig
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.stages.import_weights import ReleasedConfig
from pipelines.stages.segment import SegmentConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.stages.tune import TuneConfig
from pipelines.store.profile import Profile
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig
from pipelines.training.config import FinetuneConfig, PretrainConfig, TrainConfig

PER_GAME = ("collected_replay", "replay", "trajectories", "segments", "tokens", "finetuned", "tuned", "scores")

STAGES = ("collected_replay", "replay", "trajectories", "segments", "pretrained", "tokens", "world_action_model",
          "scores")  # fmt: skip

DATA_STAGES = STAGES[:4]

# With the stages that only some recipes have: a released checkpoint in place of all training, fine-tuning after it, a
# search for the settings to play with.
ALL_STAGES = (*STAGES[:-1], "imported", "finetuned", "tuned", "scores")


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
    """

    def __init__(self, recipe: Recipe, bucket: str | None = None, profile: Profile | None = None) -> None:
        self.recipe = recipe
        self.bucket = bucket
        self.profile = profile
        self._listed: dict[tuple[str, int], str] = {}
        if recipe.source == "bucket" and not bucket and self.stages[0] in DATA_STAGES:
            raise UsageError(
                f"Recipe '{recipe.name}' reads a bucket but the storage profile names none: set replay_root in it"
            )
        _require_fitting_sizes(recipe)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of this recipe, in order."""
        left_out = set() if self.recipe.source == "collected" else {"collected_replay"}
        if self.recipe.released is None:
            left_out |= {"imported"}
        else:
            left_out |= set(STAGES[len(DATA_STAGES) - 1 : -1] if self.recipe.finetune else STAGES[:-1])
        if self.recipe.finetune is None:
            left_out |= {"finetuned"}
        if not self.recipe.tune.wanted:
            left_out |= {"tuned"}
        return tuple(stage for stage in ALL_STAGES if stage not in left_out)

    def games(self, stage: str) -> tuple[str, ...]:
        """The games of a stage: the recipe's; after fine-tuning only the one that it was done on."""
        games, finetune = self.recipe.games, self.recipe.finetune
        if finetune is None:
            return games
        if stage in ("finetuned", "tuned", "scores") or (stage in DATA_STAGES and self.recipe.released is not None):
            return (finetune.game,)
        if stage in ("collected_replay", "replay", "trajectories"):
            return tuple(dict.fromkeys((*games, finetune.game)))
        return games

    @property
    def every_game(self) -> tuple[str, ...]:
        """All games that any stage is about."""
        return tuple(dict.fromkeys(game for stage in self.stages for game in self.games(stage)))

    def steps(self, until: str = STAGES[-1]) -> list[Step]:
        """All steps up to and including stage `until`, parents before children."""
        if until not in ALL_STAGES:
            raise unknown("stage", until, ALL_STAGES, "'worldline materialize --help' explains them")
        if until not in self.stages:
            raise UsageError(
                f"Stage '{until}' is not in recipe '{self.recipe.name}': it consists of {', '.join(self.stages)}"
            )
        found: list[Step] = []
        for stage in self.stages[: self.stages.index(until) + 1]:
            if stage == "replay":
                found += [Step(stage, game, agent) for game in self.games(stage) for agent in self.recipe.agents]
            elif stage in PER_GAME:
                found += [Step(stage, game) for game in self.games(stage)]
            else:
                found.append(Step(stage))
        return found

    def config(self, step: Step) -> StageConfig:
        """The resolved config of a step, parents' keys included."""
        if step.stage not in ALL_STAGES:
            raise unknown("stage", step.stage, ALL_STAGES, "'worldline materialize --help' explains them")
        game = check_game(step.game) if step.game else ""
        match step.stage:
            case "collected_replay":
                return self.collect(game)
            case "replay":
                return self.fetch(game, step.agent or 1)
            case "trajectories":
                return self.downsample(game)
            case "segments":
                return self.segment(game)
            case "pretrained":
                return self.pretrain()
            case "tokens":
                return self.tokenize(game)
            case "world_action_model":
                return self.train()
            case "imported":
                return self.imported()
            case "finetuned":
                return self.finetuned()
            case "tuned":
                return self.tune(game)
            case _:
                return self.evaluate(game)

    def collect(self, game: str) -> CollectConfig:
        return replace(self.recipe.collect, game=game)

    def fetch(self, game: str, agent: int) -> FetchConfig:
        if self.recipe.source == "collected":
            return replace(self.recipe.fetch, game=game, agent=agent, collected=self.collect(game).spec().ref)
        assert self.bucket is not None
        return replace(self.recipe.fetch, game=game, agent=agent, url=self.bucket, listing=self._listing(game, agent))

    def _listing(self, game: str, agent: int) -> str:
        """Digest of the bucket's listing of one agent."""
        assert self.bucket is not None
        if (game, agent) not in self._listed:
            objects = listing.list_objects(Bucket.of(self.bucket, self.profile), game, agent)
            self._listed[game, agent] = listing.digest(objects)
        return self._listed[game, agent]

    def downsample(self, game: str) -> DownsampleConfig:
        replays = tuple(self.fetch(game, agent).spec().ref for agent in self.recipe.agents)
        return replace(self.recipe.downsample, game=game, replays=replays)

    def segment(self, game: str) -> SegmentConfig:
        return replace(self.recipe.segment, game=game, trajectories=self.downsample(game).spec().ref)

    def pretrain(self) -> PretrainConfig:
        games = self.recipe.games
        return replace(
            self.recipe.pretrain,
            name=self.recipe.name,
            games=games,
            trajectories=tuple(self.downsample(game).spec().ref for game in games),
            segments=tuple(self.segment(game).spec().ref for game in games),
            seed=self.recipe.seed,
        )

    def tokenize(self, game: str) -> TokenizeConfig:
        return replace(
            self.recipe.tokenize,
            game=game,
            pretrained=self.pretrain().spec().ref,
            trajectories=self.downsample(game).spec().ref,
        )

    def train(self) -> TrainConfig:
        games = self.recipe.games
        return replace(
            self.recipe.train,
            name=self.recipe.name,
            games=games,
            pretrained=self.pretrain().spec().ref,
            tokens=tuple(self.tokenize(game).spec().ref for game in games),
            segments=tuple(self.segment(game).spec().ref for game in games),
            trajectories=tuple(self.downsample(game).spec().ref for game in games),
            seed=self.recipe.seed,
        )

    def tune(self, game: str) -> TuneConfig:
        """The search for the settings to play with; an axis that the recipe leaves empty is the evaluation's own value.

        Raises UsageError for a recipe without one, and for what the planner does not read.
        """
        grid, play = self.recipe.tune, self.recipe.evaluate
        if not grid.wanted:
            raise UsageError(
                f"Recipe '{self.recipe.name}' searches over no settings: set tune.contexts=1,2,4 or another of tune's"
            )
        if play.settings or play.beam_episodes:
            raise UsageError(
                f"A search serves one planner and finds all its numbers: set evaluate.beam_episodes=0 (it is "
                f"{play.beam_episodes}) and evaluate.settings= (it is '{play.settings}')"
            )
        greedy = play.planner == "greedy"
        if greedy and (grid.widths or grid.horizons or grid.leaves):
            raise UsageError(
                "Greedy play reads no width, horizon or leaf value: search over tune.contexts alone, or set "
                "evaluate.planner=beam"
            )
        checkpoint, pretrained = self.player(game)
        return TuneConfig(
            game=game,
            checkpoint=checkpoint,
            pretrained=pretrained,
            grid=replace(
                grid,
                contexts=grid.contexts or (play.context,),
                widths=() if greedy else grid.widths or (play.beam_width,),
                horizons=() if greedy else grid.horizons or (play.beam_horizon,),
                leaves=grid.leaves or (play.search.leaf,),
            ),
            protocol=play.protocol,
            planner=play.planner,
            epsilon=play.epsilon,
            max_steps=grid.max_steps or play.max_steps,
            precision=play.precision,
            search=play.search,
            rom_md5=play.rom_md5,
            rom_dir=play.rom_dir,
            envs=play.envs,
        )

    def evaluate(self, game: str) -> EvaluateConfig:
        checkpoint, pretrained = self.player(game)
        play = self.recipe.evaluate
        if self.recipe.tune.wanted:
            found: dict[str, Any] = {name: getattr(EvaluateConfig, name) for name in TUNED_FIELDS}
            play = replace(play, tuned=self.tune(game).spec().ref, **found)
        return replace(
            play,
            game=game,
            checkpoint=checkpoint,
            pretrained=pretrained,
            collected=self.collect(game).spec().ref if "collected_replay" in self.stages else None,
            seed=self.recipe.seed,
        )

    def imported(self) -> ReleasedConfig:
        """Raises UsageError for a recipe that trains its own checkpoint."""
        if self.recipe.released is None:
            raise UsageError(
                f"Recipe '{self.recipe.name}' imports no checkpoint: 'worldline import-jowa' makes one that does"
            )
        networks = self.recipe.pretrain
        return replace(self.recipe.released, name=self.recipe.name, tokenizer=networks.tokenizer, model=networks.model)

    def finetuned(self) -> FinetuneConfig:
        """Raises UsageError for a recipe without fine-tuning."""
        if self.recipe.finetune is None:
            raise UsageError(f"Recipe '{self.recipe.name}' fine-tunes nothing: 'worldline finetune' derives one")
        checkpoint, pretrained = self.trained()
        return replace(
            self.recipe.finetune,
            checkpoint=checkpoint,
            pretrained=pretrained,
            trajectories=self.downsample(self.recipe.finetune.game).spec().ref,
            seed=self.recipe.seed,
        )

    def player(self, game: str) -> tuple[Ref, Ref | None]:
        """The checkpoint that plays `game`, and the artefact of its tokenizer where it does not hold that itself."""
        if self.recipe.finetune is not None and game == self.recipe.finetune.game:
            return self.finetuned().spec().ref, None
        return self.trained()

    def trained(self) -> tuple[Ref, Ref | None]:
        """The same before any fine-tuning."""
        if self.recipe.released is not None:
            return self.imported().spec().ref, None
        return self.train().spec().ref, self.pretrain().spec().ref


def _require_fitting_sizes(recipe: Recipe) -> None:
    """Sizes that two stages must share. Not the recipe's to check: overrides change one of them at a time."""
    model, tokenizer = recipe.pretrain.model, recipe.pretrain.tokenizer
    sizes = (
        ("pretrain.tokenizer.vocab_size", tokenizer.vocab_size, "pretrain.model.vocab_size", model.vocab_size),
        ("pretrain.tokenizer's frames of tokens", tokenizer.tokens_per_frame,
         "pretrain.model.tokens_per_frame", model.tokens_per_frame),
        ("segment.length", recipe.segment.length, "pretrain.model.max_steps", model.max_steps),
    )  # fmt: skip
    for ours, value, theirs, other in sizes:
        if value != other:
            raise UsageError(
                f"Recipe '{recipe.name}': {ours} is {value} but {theirs} is {other}: they must be equal, set both"
            )
    if recipe.finetune is not None and recipe.finetune.imagine is not None:
        imagined = recipe.finetune.imagine.segments
        for phase in recipe.finetune.phases:
            if imagined >= phase.segments:
                raise UsageError(
                    f"Recipe '{recipe.name}': phase '{phase.name}' has {phase.segments} segments, {imagined} of them "
                    "imagined: some must be real, lower finetune.imagine.segments"
                )
    if recipe.evaluate.context > model.max_steps:
        raise UsageError(
            f"Recipe '{recipe.name}': evaluate.context is {recipe.evaluate.context} but the model sees "
            f"{model.max_steps} steps: lower it or raise pretrain.model.max_steps"
        )
