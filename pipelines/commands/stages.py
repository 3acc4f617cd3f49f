"""One command per stage. Each runs the same function as the Dagster asset of that stage, without Dagster."""

import typer

from pipelines.commands.options import (
    ExperimentName,
    Games,
    Overrides,
    RecipeName,
    Storage,
    only_games,
    plan_of_experiment,
    plan_of_recipe,
    profile_and_store,
)
from pipelines.recipes.plan import Step
from pipelines.recipes.run import make

PANEL = "Stages, in order"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (collect, fetch, downsample, segment, pretrain, tokenize, train, evaluate, report):
        app.command(rich_help_panel=PANEL)(command)


def collect(games: Games = "", recipe: RecipeName = "demo", changes: Overrides = None, storage: Storage = None) -> None:
    """Play games and log the replay in DQN-Replay's own file layout.

    Example: worldline collect --games Pong --set collect.steps=5000
    """
    _data("collected_replay", games, recipe, changes, storage)


def fetch(games: Games = "", recipe: RecipeName = "demo", changes: Overrides = None, storage: Storage = None) -> None:
    """List a bucket's replay logs, mirror the small arrays, stitch the episode table.

    Example: worldline fetch --games Freeway --set agents=1
    """
    _data("replay", games, recipe, changes, storage)


def downsample(
    games: Games = "", recipe: RecipeName = "demo", changes: Overrides = None, storage: Storage = None
) -> None:
    """Draw whole episodes from the replay into one compressed HDF5 per game.

    Example: worldline downsample --games Freeway --set downsample.transitions=10000
    """
    _data("trajectories", games, recipe, changes, storage)


def segment(games: Games = "", recipe: RecipeName = "demo", changes: Overrides = None, storage: Storage = None) -> None:
    """Index the training windows of drawn episodes.

    Example: worldline segment --games Freeway --set segment.stride=1
    """
    _data("segments", games, recipe, changes, storage)


def pretrain(experiment: ExperimentName, storage: Storage = None) -> None:
    """Stage 1: learn the tokenizer and the world model from frames.

    Example: worldline pretrain demo
    """
    _learning("pretrained", experiment, "", storage)


def tokenize(experiment: ExperimentName, games: Games = "", storage: Storage = None) -> None:
    """Encode every frame once with the frozen tokenizer.

    Example: worldline tokenize demo --games Freeway
    """
    _learning("tokens", experiment, games, storage)


def train(experiment: ExperimentName, storage: Storage = None) -> None:
    """Stage 2: learn the world-action model from tokens. A killed run goes on where it was.

    Example: worldline train demo
    """
    _learning("world_action_model", experiment, "", storage)


def evaluate(experiment: ExperimentName, games: Games = "", storage: Storage = None) -> None:
    """Let the checkpoint play, next to random play under the same protocol.

    Example: worldline evaluate demo --games Freeway
    """
    _learning("scores", experiment, games, storage)


def report(storage: Storage = None) -> None:
    """Write the leaderboard: one HTML page of all experiments' scores and their lineage.

    Example: worldline report
    """
    from pipelines.recipes.board import make_board

    _, store = profile_and_store(storage)
    made = make_board(store)
    print(made)
    print(f"Open {made.artefact.path('index.html')}")


def _data(stage: str, games: str, recipe: str, changes: list[str] | None, storage: str | None) -> None:
    profile, store = profile_and_store(storage)
    plan = plan_of_recipe(recipe, changes, games, profile)
    for step in _of_stage(plan.steps(stage), stage):
        print(make(plan, step, store))


def _learning(stage: str, name: str, games: str, storage: str | None) -> None:
    profile, store = profile_and_store(storage)
    experiment, plan = plan_of_experiment(name, profile)
    for step in only_games(_of_stage(plan.steps(stage), stage), games, plan):
        print(make(plan, step, store, experiment))


def _of_stage(steps: list[Step], stage: str) -> list[Step]:
    return [step for step in steps if step.stage == stage]
