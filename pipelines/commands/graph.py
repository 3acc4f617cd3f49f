"""Commands that run the asset graph. Each returns the process that does it, so that this imports no Dagster."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.table import Table

from pipelines import home, process
from pipelines.commands.options import (
    DataRecipe,
    ExperimentName,
    Overrides,
    RecipeName,
    Remake,
    SeedOption,
    Storage,
    chosen_games,
    default_recipe,
    experiment_folder,
    profile_and_store,
    with_seed,
)
from pipelines.errors import UsageError
from pipelines.graph import experiment as experiments
from pipelines.progress import printer, say
from pipelines.recipes.registry import AGAINST
from pipelines.recipes.registry import recipe as named_recipe

if TYPE_CHECKING:
    from pipelines.graph.backfill import Asked
    from pipelines.store.store import Store

PANEL = "The graph"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (demo, ui, automate, pools, materialize, backfill):
        app.command(rich_help_panel=PANEL)(command)


def demo(
    name: Annotated[str, typer.Option(help="Name of the experiment to register.")] = "demo",
    recipe: RecipeName = "demo",
    changes: Overrides = None,
    seeds: Annotated[int, typer.Option(help="Training seeds: so many experiments of each recipe.", min=1, max=100)] = 1,
    storage: Storage = None,
) -> "Launch":
    """Collect, train, score and report on two games: everything once, about ten minutes on two cores with bf16.

    With --recipe prelar_mini: videos of a robot, a world that learns them, an agent that goes on from it, and the same
    agent without videos beside it; in about an hour. A second run finds every artefact and says so.

    Example: worldline demo

    Example: worldline demo --recipe prelar_mini --name drawer
    """
    profile_and_store(storage)
    named = {"": recipe} | ({f"-{AGAINST[recipe]}": AGAINST[recipe]} if recipe in AGAINST else {})
    keys = []
    for seed in range(seeds):
        of_seed = [*(changes or []), *([f"seed={seed}"] if seeds > 1 else [])]
        for ending, each in named.items():
            called = f"{name}{ending}" + (f"-seed{seed}" if seed else "")
            keys.append(experiments.register(experiment_folder(), called, named_recipe(each, of_seed)).key)
    say(f"Experiment{'s' if keys[1:] else ''} {', '.join(keys)}, everything under {home.home()}")
    arguments = ["materialize", "--experiment", keys[0], "--until", "leaderboard", "--summary"]
    return Launch((*arguments, *(f"--beside={key}" for key in keys[1:])), storage)


def ui(
    port: Annotated[int, typer.Option(help="On 127.0.0.1.", min=1, max=65535)] = 3000, storage: Storage = None
) -> "Launch":
    """Open the asset graph in Dagster's UI, with everything that was made so far. Ctrl-C ends it, with exit code 0.

    Example: worldline ui --port 3001
    """
    return Launch(("ui", "--port", str(port)), storage)


def pools(
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[POOL=NUMBER]...", help="What to set (default: only show).")
    ] = None,
) -> "Launch":
    """How many runs of the stages that share a pool (gpu, network, disk) the UI's daemon lets go at a time.

    What waits begins as soon as a larger number makes room; what runs goes on under a smaller one. 0 holds all back.

    Example: worldline pools gpu=2
    """
    return Launch(("pools", *(changes or ())))


def automate(
    to: Annotated[str, typer.Argument(metavar="[on|off|status]", help="What to do.")] = "status",
    names: Annotated[list[str] | None, typer.Argument(help="Which of them (default: all).")] = None,
    storage: Storage = None,
) -> "Launch":
    """What runs by itself while 'worldline ui' runs: switch it on or off, or see how it is.

    weekly_reevaluation, nightly_verify, new_checkpoints, new_scores; as on the page Automation of the UI, which need
    not run.

    Example: worldline automate on nightly_verify
    """
    return Launch(("automate", to, *(names or ())), storage)


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
    all that is before pretrained: imported_shards (source=shards). In recipes that have them: videos and
    video_pretrained. In place of training: imported and imported_world, after 'worldline import'. Before
    scores: finetuned, after 'worldline finetune' or in recipes named so, and tuned, where tune has something to search
    over. Of recipes such as
    iris: world_model_agent in place of all that is before scores. What 'worldline play' keeps is recordings, and what
    'worldline diagnose' finds diagnosed; they stand beside all these.

    Example: worldline materialize demo --until tokens
    """
    arguments = ["materialize", "--experiment", experiment, "--until", until]
    arguments += ["--only", only] if only else []
    named = ",".join(chosen_games(games))
    return Launch((*arguments, *(["--games", named] if named else [])), storage, remake)


def backfill(
    games: Annotated[str, typer.Option(help="Which games: Pong,Qbert, Ms*, Pong...Qbert for a range, or atari100k.")],
    until: Annotated[str, typer.Option(help="Last stage to make, such as segments, tokens or scores.")] = "segments",
    experiment: Annotated[str, typer.Option(help="Of which experiment (default: see above).")] = "",
    recipe: DataRecipe = "",
    seed: SeedOption = None,
    changes: Overrides = None,
    missing_only: Annotated[bool, typer.Option("--missing-only", help="Leave out what stands already.")] = False,
    now: Annotated[bool, typer.Option("--now/--enqueue", help="Run it here, or leave it to the UI's daemon.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be made, and why.")] = False,
    jobs: Annotated[int, typer.Option(help="With --now: processes side by side.", min=1)] = 2,
    remake: Remake = False,
    storage: Storage = None,
) -> "Launch | None":
    """Make everything up to a stage for games of your choice; games that need nothing of each other side by side.

    Up to segments, data is made with a recipe's settings and belongs to all experiments that ask for the same. Later
    stages belong to an experiment: without --experiment, to the one of that recipe for these very games, which is
    registered where there is none. One game's failure stops no other; the same command goes on after an interruption.

    Example: worldline backfill --games Pong,MsPacman --until tokens --jobs 2
    """
    from pipelines.graph.backfill import as_asked

    profile, store = profile_and_store(storage, remake)
    named = chosen_games(games)
    if not named:
        raise UsageError(
            "Backfill is for games of your choice: name them, for example --games Pong ('worldline games')"
        )
    changes = with_seed(changes, seed)
    if experiment and (recipe or changes):
        raise UsageError(f"Experiment '{experiment}' is frozen: leave --recipe, --seed and --set out, or --experiment")
    name = recipe or default_recipe(profile)
    changes = [*changes, f"games={','.join(named)}"]
    settings = None if experiment else named_recipe(name, changes)
    asked = as_asked(experiment_folder(), named, until, store, settings, experiment)
    if dry_run:
        _print_prospect(asked, store, missing_only)
        return None
    if (whose := asked.experiment) is not None:
        experiments.register(experiment_folder(), whose.name, whose.recipe)
        say(f"Experiment {whose.key}")
        arguments = ["backfill", "--experiment", whose.key]
    else:
        arguments = ["backfill", "--recipe", name, *(text for each in changes[:-1] for text in ("--set", each))]
    arguments += ["--games", ",".join(named), "--until", until, "--jobs", str(jobs)]
    arguments += ["--missing-only"] * missing_only + ["--enqueue"] * (not now)
    return Launch(tuple(arguments), storage, remake)


def _print_prospect(asked: "Asked", store: "Store", missing_only: bool) -> None:
    """What a backfill would do, a row a step."""
    from pipelines.graph.backfill import FAILED, MADE, THERE, prospect

    words = {MADE: "make", THERE: "there", FAILED: "would fail"}
    found = prospect(asked.plan, asked.steps, store, asked.experiment)
    view = Table("game", "stage", "", "why", box=None, header_style="bold")
    for each in found:
        if each.state != THERE or not missing_only:
            stage = each.step.stage if each.step.agent is None else f"{each.step.stage} {each.step.agent}"
            view.add_row(each.step.game or "all", stage, words[each.state], each.text)
    printer().print(view, soft_wrap=True)
    numbers = [f"{sum(each.state == state for each in found)} {word}" for state, word in words.items()]
    whose = "" if asked.experiment is None else f" Experiment {asked.experiment.key}."
    print(f"{', '.join(numbers)}.{whose} Nothing was done: leave --dry-run out.")


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
