"""Commands that run the asset graph: each starts `python -m assets.launch`, so that this imports no Dagster."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from pipelines import home
from pipelines.commands.options import (
    ExperimentName,
    Overrides,
    RecipeName,
    Remake,
    Storage,
    chosen_games,
    experiment_folder,
    profile_and_store,
)
from pipelines.errors import UsageError
from pipelines.graph import experiment as experiments
from pipelines.progress import say
from pipelines.recipes.registry import recipe as named_recipe

PANEL = "The graph"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (demo, ui, materialize, backfill):
        app.command(rich_help_panel=PANEL)(command)


def demo(
    name: Annotated[str, typer.Option(help="Name of the experiment to register.")] = "demo",
    recipe: RecipeName = "demo",
    changes: Overrides = None,
    storage: Storage = None,
) -> int:
    """Collect, train, score and report on two games: everything once, about ten minutes on two cores.

    A second run finds every artefact and says so. Example: worldline demo
    """
    from pipelines.tools.summary import summarise

    _, store = profile_and_store(storage)
    experiment = experiments.register(experiment_folder(), name, named_recipe(recipe, changes or []))
    say(f"Experiment {experiment.key}, everything under {home.home()}")
    code = launch("materialize", "--experiment", experiment.key, "--until", "leaderboard", storage=storage)
    if code == 0:
        summarise(experiment, store)
    return code


def ui(
    port: Annotated[int, typer.Option(help="On 127.0.0.1.", min=1, max=65535)] = 3000, storage: Storage = None
) -> int:
    """Open the asset graph in Dagster's UI, with everything that was made so far.

    Example: worldline ui --port 3001
    """
    return launch("ui", "--port", str(port), storage=storage)


def materialize(
    experiment: ExperimentName = "demo",
    until: Annotated[str, typer.Option(help="Last stage to make.")] = "leaderboard",
    only: Annotated[str, typer.Option(help="This stage alone.")] = "",
    games: Annotated[str | None, typer.Option(help="Only these of the experiment's games: A,B.")] = None,
    remake: Remake = False,
    storage: Storage = None,
) -> int:
    """Run an experiment through Dagster up to a stage, skipping what is already there.

    Stages: collected_replay, replay, trajectories, segments, pretrained, tokens, world_action_model, scores,
    leaderboard; imported in place of training after 'worldline import-jowa', finetuned before scores after
    'worldline finetune' or in recipes named so. Example: worldline materialize demo --until tokens
    """
    arguments = ["materialize", "--experiment", experiment, "--until", until]
    arguments += ["--only", only] if only else []
    named = ",".join(chosen_games(games))
    return launch(*arguments, *(["--games", named] if named else []), storage=storage, remake=remake)


def backfill(
    games: Annotated[str, typer.Option(help="Which games: Pong,Qbert.")],
    recipe: RecipeName = "demo",
    until: Annotated[str, typer.Option(help="Last data stage.")] = "segments",
    changes: Overrides = None,
    remake: Remake = False,
    storage: Storage = None,
) -> int:
    """Make the data stages for other games, with a recipe's settings.

    Example: worldline backfill --games Pong,Qbert --until trajectories
    """
    named = ",".join(chosen_games(games))
    if not named:
        raise UsageError(
            "Backfill is for games of your choice: name them, for example --games Pong ('worldline games')"
        )
    arguments = ["backfill", "--recipe", recipe, "--games", named, "--until", until]
    for change in changes or []:
        arguments += ["--set", change]
    return launch(*arguments, storage=storage, remake=remake)


def launch(*arguments: str, storage: str | None, remake: bool = False) -> int:
    """Run `python -m assets.launch` with our home and storage; returns its exit code."""
    environment = os.environ | {"WORLDLINE_HOME": str(home.home())}
    if storage:
        environment["WORLDLINE_STORAGE"] = storage
    if remake:
        environment[home.REMAKE] = "1"
    with subprocess.Popen([sys.executable, "-m", "assets.launch", *arguments], env=environment) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the terminal told the child too: it ends by itself and says so
            return child.wait()
