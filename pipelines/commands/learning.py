"""Checkpoints from elsewhere: what was trained by others becomes an experiment of ours."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Storage, experiment_folder, profile_and_store
from pipelines.errors import UsageError, unknown
from pipelines.recipes import experiment as experiments
from pipelines.recipes.plan import Plan, Step
from pipelines.recipes.registry import RECIPES
from pipelines.recipes.registry import recipe as named_recipe
from pipelines.recipes.run import make, run_config

PANEL = "Stages, in order"
SIZES = {"40m": "jowa_40m", "70m": "jowa_70m", "150m": "jowa_150m"}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("import-jowa", rich_help_panel=PANEL)(import_jowa)


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
    Example: worldline import-jowa --tokenizer tokenizer.pt --model JOWA_150M.pt --size 150m
    """
    from pipelines.configs.released import ReleasedConfig
    from pipelines.store.hashing import sha256_of

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
    recipe = replace(named_recipe(chosen, [f"games={games}"] if games else []), released=released)
    profile, store = profile_and_store(storage)
    plan = Plan(recipe, profile.replay_root)
    run_config(plan.config(Step("imported")), store)  # what cannot be imported is not registered
    experiment = experiments.register(experiment_folder(), name or _plain(model.stem), recipe)
    print(make(plan, Step("imported"), store, experiment))
    print(f"Experiment {experiment.key}: let it play with 'worldline evaluate {experiment.name} --games GAME'")


def _plain(stem: str) -> str:
    """A file's name as an experiment's."""
    return "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in stem) or "imported"
