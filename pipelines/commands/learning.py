"""Checkpoints that begin elsewhere: what others trained becomes an experiment, what we trained goes on learning."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.options import (
    ExperimentName,
    Overrides,
    RankCount,
    Storage,
    artefact_named,
    experiment_folder,
    print_once,
    profile_and_store,
)
from pipelines.environments.registry import game_named, require_game
from pipelines.errors import UsageError, unknown
from pipelines.graph import experiment as experiments
from pipelines.graph.config_io import override
from pipelines.graph.launch import Job, check_ranks, launch
from pipelines.graph.make import make, plan_of, pointer, run_config
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.graph.table import STAGES
from pipelines.recipes.jowa import finetuned
from pipelines.recipes.registry import RECIPES
from pipelines.recipes.registry import recipe as named_recipe
from pipelines.stages.import_trajectories import ImportConfig
from pipelines.stages.import_weights import Released, ReleasedConfig
from pipelines.stages.train import PretrainConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store

PANEL = "Stages, in order"
FROM = "Learn from what was played and kept, recordings/EXPERIMENT/GAME/game-... ('worldline play'; default: replay)."
SIZES = {"40m": "jowa_40m", "70m": "jowa_70m", "150m": "jowa_150m"}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("import-jowa", rich_help_panel=PANEL)(import_jowa)
    app.command(rich_help_panel=PANEL)(finetune)


def import_jowa(
    tokenizer: Annotated[Path, typer.Option(help="The tokenizer's state_dict, as torch saved it.")],
    model: Annotated[Path, typer.Option(help="JOWA's state_dict, as torch saved it.")],
    size: Annotated[str, typer.Option(help="40m, 70m, 150m, or a recipe whose networks these are.")],
    name: Annotated[str, typer.Option(help="Of the experiment to make (default: the model file's).")] = "",
    games: Annotated[str, typer.Option(help="Games to play: Pong,Assault (default: the recipe's).")] = "",
    storage: Storage = None,
) -> None:
    """Make an experiment of a released checkpoint; it evaluates like any other.

    Both files are read as data, nothing in them is run. Wrappers' prefixes are stripped, buffers and LPIPS left out.
    Weights are kept exactly: float32, bfloat16, float16, and float64 that fits into float32; others are refused.
    Example: worldline import-jowa --tokenizer tokenizer.pt --model JOWA_150M.pt --size 150m
    """
    from pipelines.store.files import sha256_of

    chosen = SIZES.get(size.lower(), size)
    if chosen not in RECIPES:
        raise unknown("size", size, (*SIZES, *RECIPES), "of released checkpoints, or a recipe's name")
    try:
        released = ReleasedConfig(
            tokenizer_sha256=sha256_of(tokenizer),
            model_sha256=sha256_of(model),
            tokenizer_file=str(tokenizer.absolute()),
            model_file=str(model.absolute()),
        )
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read ({error.strerror}): give a checkpoint's file") from error
    recipe = named_recipe(chosen, [f"games={games}"] if games else [])
    released = replace(released, networks=recipe.of(PretrainConfig).networks)
    register_released(recipe, released, name or named_after(model), storage)


def register_released(recipe: Recipe, released: ReleasedConfig, name: str, storage: str | None) -> None:
    """Import a checkpoint and make an experiment of it: `recipe` with that in place of all training."""
    experiment = registered(without_learning(recipe), released, name, storage)
    print(f"Experiment {experiment.key}: let it play with 'worldline evaluate {experiment.name} --games GAME'")


def registered(recipe: Recipe, released: Released, name: str, storage: str | None) -> experiments.Experiment:
    """Import what others trained and make an experiment of a recipe that has it too."""
    recipe, step = recipe.but(**{released.VERB: released}), Step(released.STAGE)
    profile, store = profile_and_store(storage)
    plan = Plan(recipe, profile.replay_root, profile)
    report = run_config(plan.config(step), store)
    store.open(report.artefact.ref)  # what cannot be imported, or failed its check, is not registered
    experiment = experiments.register(experiment_folder(), name, recipe)
    make(plan, step, store, experiment)  # it stands: this names it
    print(report)
    return experiment


def without_learning(recipe: Recipe) -> Recipe:
    """What is left of a recipe whose checkpoint comes from elsewhere: its data, and how it is scored."""
    gone: dict[str, Any] = {row.verb: None for row in STAGES if row.kind == "learning"}
    return recipe.but(**gone)


def finetune(
    experiment: ExperimentName,
    game: Annotated[str, typer.Option(help="The game to learn on; the experiment need not know it.")],
    episodes: Annotated[
        int | None, typer.Option(help="How many of its best episodes (default: 4, or all of a recording).")
    ] = None,
    recording: Annotated[str, typer.Option("--from", help=FROM)] = "",
    imagined: Annotated[bool, typer.Option("--imagined", help="Add segments that the model imagines itself.")] = False,
    name: Annotated[str, typer.Option(help="Of the experiment to make (default: EXPERIMENT-GAME-EPISODES).")] = "",
    changes: Overrides = None,
    ranks: RankCount = 1,
    storage: Storage = None,
) -> None:
    """Let an experiment's checkpoint learn on from a few good episodes of one game, as an experiment of its own.

    Its own fields are changed below finetune, such as --set finetune.phases.expert.steps=2000.
    Example: worldline finetune demo --game Boxing --episodes 4

    Example: worldline finetune demo --game Boxing --from recordings/demo/Boxing/game-0a1b2c3d
    """
    check_ranks(ranks)
    game = game_named(game)
    _, store = profile_and_store(storage)
    base = experiments.find(experiment_folder(), experiment)
    kept = _recording(recording, game, store) if recording else None
    count = episodes if episodes is not None else 4 if kept is None else _learnable(kept)
    address = "" if kept is None else str(kept.ref)
    recipe = override(finetuned(base.recipe, game, count, imagined, address), *(changes or []))
    plan = plan_of(base, store).but(recipe)
    store.open(
        plan.agent_of(Step("finetuned", game))
    )  # before hours of collecting: there is a checkpoint, and it is whole
    what = str(count) if kept is None else f"recording-{kept.ref.key[:8]}"
    own = name or "-".join([base.name, game, what, *(["imagined"] if imagined else [])])
    found = experiments.register(experiment_folder(), own, recipe)
    for step in plan.steps():
        if (ref := plan.made(step)) is not None:
            store.point(pointer(step, found), ref)
    for step in plan.steps("finetuned"):
        if step.game == game and step.stage in ("collected_replay", "replay", "trajectories", ImportConfig.STAGE):
            print_once(make(plan, step, store, found))
    print_once(launch(Job("finetuned", found.key, game, storage or ""), ranks))
    print_once(f"Experiment {found.key}: let it play with 'worldline evaluate {found.name}'")


def _recording(name: str, game: str, store: Store) -> Artefact:
    """What was kept under that name. Raises UsageError where it holds no played episodes of the game."""
    found = store.open(artefact_named(name, store))
    require_game(found.ref, found.ref.subject, game)
    if "trajectories.h5" not in found.names():
        raise UsageError(
            f"{found.ref} holds no episodes of the game itself: record some first (worldline play EXPERIMENT --mode "
            "game or agent)"
        )
    return found


def _learnable(recording: Artefact) -> int:
    """How many episodes of a recording there are to learn from: one is held out, where there are several."""
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories

    return max(Trajectories(recording.path(FILE_NAME)).num_episodes - 1, 1)


def named_after(file: Path) -> str:
    """A file's name as an experiment's."""
    return "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in file.stem) or "imported"
