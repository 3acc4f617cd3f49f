"""Recipes and experiments: list, show, freeze."""

import json
from typing import Annotated

import typer

from pipelines.commands.options import (
    Games,
    Overrides,
    RecipeName,
    SeedOption,
    Storage,
    chosen_games,
    experiment_folder,
    profile_and_store,
    with_seed,
)
from pipelines.graph import experiment as experiments
from pipelines.graph.config_io import to_plain
from pipelines.recipes.registry import RECIPES
from pipelines.recipes.registry import recipe as named_recipe

PANEL = "Recipes and experiments"


def add_to(app: typer.Typer) -> None:
    """Register the two groups."""
    recipes = typer.Typer(help="Complete run configurations.", no_args_is_help=True)
    recipes.command("list")(recipe_list)
    recipes.command("show")(recipe_show)
    app.add_typer(recipes, name="recipe", rich_help_panel=PANEL)
    frozen = typer.Typer(help="Recipes frozen under a name.", no_args_is_help=True)
    frozen.command("new")(experiment_new)
    frozen.command("list")(experiment_list)
    frozen.command("show")(experiment_show)
    frozen.command("remove")(experiment_remove)
    app.add_typer(frozen, name="experiment", rich_help_panel=PANEL)


def recipe_list() -> None:
    """All recipes, a line each.

    Example: worldline recipe list
    """
    width = max(map(len, RECIPES))
    for name, build in RECIPES.items():
        print(f"{name:{width}} {(build.__doc__ or '').splitlines()[0]}")


def recipe_show(name: str, changes: Overrides = None) -> None:
    """Print every field of a recipe.

    Example: worldline recipe show demo --set seed=1
    """
    print(json.dumps(to_plain(named_recipe(name, changes or [])), indent=1))


def experiment_new(
    name: Annotated[str, typer.Argument(help="A name of your own.")],
    recipe: RecipeName = "demo",
    games: Games = None,
    seed: SeedOption = None,
    changes: Overrides = None,
) -> None:
    """Freeze a recipe with its changes under a name; it becomes a partition of the graph.

    Example: worldline experiment new wide --recipe demo --set pretrain.model.width=192 --seed 1
    """
    named = chosen_games(games)
    changes = [*with_seed(changes, seed), *([f"games={','.join(named)}"] if named else [])]
    found = experiments.register(experiment_folder(), name, named_recipe(recipe, changes))
    print(f"{found.key}: run it with 'worldline materialize {found.key}'")


def experiment_list() -> None:
    """All experiments, a line each.

    Example: worldline experiment list
    """
    everything = experiments.registered(experiment_folder())
    for found in everything:
        print(f"{found.key:24} recipe {found.recipe.name}, seed {found.recipe.seed}, {', '.join(found.recipe.games)}")
    if not everything:
        print("None yet: worldline experiment new NAME --recipe demo")


def experiment_show(name: str) -> None:
    """Print the frozen config of an experiment.

    Example: worldline experiment show demo
    """
    print(json.dumps(to_plain(experiments.find(experiment_folder(), name).recipe), indent=1))


def experiment_remove(
    name: Annotated[str, typer.Argument(help="Its name or key; files of earlier versions and damaged ones go too.")],
    storage: Storage = None,
) -> None:
    """Forget an experiment and the names of what it made; nothing is deleted before 'worldline gc --yes'.

    Data that others share, and scores on the leaderboard's page, stay as long as another name leads to them.
    Example: worldline experiment remove wide, then worldline gc
    """
    _, store = profile_and_store(storage)
    key = experiments.forget(experiment_folder(), name)
    names = store.forget(key)
    print(f"{key} is forgotten, and {len(names)} names of what it made: 'worldline gc' lists what can go now")
