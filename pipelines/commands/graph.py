"""Commands that run the asset graph. Each returns the process that does it, so that this imports no Dagster."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, NoReturn

import typer

from pipelines import home, process
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
) -> "Launch":
    """Collect, train, score and report on two games: everything once, about ten minutes on two cores.

    A second run finds every artefact and says so. Example: worldline demo
    """
    profile_and_store(storage)
    experiment = experiments.register(experiment_folder(), name, named_recipe(recipe, changes or []))
    say(f"Experiment {experiment.key}, everything under {home.home()}")
    arguments = ("materialize", "--experiment", experiment.key, "--until", "leaderboard", "--summary")
    return Launch(arguments, storage)


def ui(
    port: Annotated[int, typer.Option(help="On 127.0.0.1.", min=1, max=65535)] = 3000, storage: Storage = None
) -> "Launch":
    """Open the asset graph in Dagster's UI, with everything that was made so far.

    Example: worldline ui --port 3001
    """
    return Launch(("ui", "--port", str(port)), storage)


def materialize(
    experiment: ExperimentName = "demo",
    until: Annotated[str, typer.Option(help="Last stage to make.")] = "leaderboard",
    only: Annotated[str, typer.Option(help="This stage alone (default: all up to --until).")] = "",
    games: Annotated[str | None, typer.Option(help="Only these of the experiment's games: A,B (default: all).")] = None,
    remake: Remake = False,
    storage: Storage = None,
) -> "Launch":
    """Run an experiment through Dagster up to a stage, skipping what is already there.

    Stages: collected_replay, replay, trajectories, segments, pretrained, tokens, world_action_model, scores,
    leaderboard. In place of trajectories and what is before them: imported_trajectories (source=imported). In place of
    all that is before pretrained: imported_shards (source=shards). In place of training: imported, after 'worldline
    import-jowa'. Before scores: finetuned, after 'worldline finetune' or in recipes named so, and tuned, where tune has
    something to search over.

    Example: worldline materialize demo --until tokens
    """
    arguments = ["materialize", "--experiment", experiment, "--until", until]
    arguments += ["--only", only] if only else []
    named = ",".join(chosen_games(games))
    return Launch((*arguments, *(["--games", named] if named else [])), storage, remake)


def backfill(
    games: Annotated[str, typer.Option(help="Which games: Pong,Qbert.")],
    recipe: RecipeName = "demo",
    until: Annotated[str, typer.Option(help="Last data stage.")] = "segments",
    changes: Overrides = None,
    remake: Remake = False,
    storage: Storage = None,
) -> "Launch":
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
    return Launch(tuple(arguments), storage, remake)


@dataclass(frozen=True)
class Launch:
    """`assets.launch` with these arguments, in our home and storage, with the code that runs here."""

    arguments: tuple[str, ...]
    storage: str | None = None
    remake: bool = False

    def become(self) -> NoReturn:
        """Take this process's place: whoever stops `worldline` then stops what it became, and nothing stands between.

        Never returns; no `finally` of the caller runs.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        process.become(process.command("assets.launch", *self.arguments, parent=False), self._environment())

    def run(self) -> int:
        """Run it as a child, and return its exit code."""
        with subprocess.Popen(process.command("assets.launch", *self.arguments), env=self._environment()) as child:
            try:
                return child.wait()
            except KeyboardInterrupt:  # the terminal told the child too: it ends by itself
                return child.wait()

    def _environment(self) -> dict[str, str]:
        storage = {"WORLDLINE_STORAGE": self.storage} if self.storage else {}
        remake = {home.REMAKE: "1"} if self.remake else {}
        return os.environ | process.environment() | {"WORLDLINE_HOME": str(home.home())} | storage | remake
