"""One command per stage. Each runs the same function as the Dagster asset of that stage, without Dagster."""

import json
from collections.abc import Callable
from typing import Annotated

import typer

from pipelines.commands.evaluating import evaluate
from pipelines.commands.options import (
    Agents,
    DataRecipe,
    ExperimentName,
    Games,
    Mirror,
    Overrides,
    RankCount,
    RecipeName,
    Remake,
    Storage,
    default_recipe,
    only_games,
    plan_of_experiment,
    plan_of_recipe,
    print_once,
    profile_and_store,
)
from pipelines.commands.reevaluating import reevaluate
from pipelines.errors import Members, UsageError, WorldlineError
from pipelines.graph.launch import Job, launch
from pipelines.graph.make import make
from pipelines.graph.plan import Step
from pipelines.progress import printer
from pipelines.store.artefact import Report

PANEL = "Stages, in order"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (
        collect,
        fetch,
        downsample,
        segment,
        pretrain,
        pretrain_videos,
        tokenize,
        train,
        learn,
        evaluate,
        reevaluate,
        report,
    ):
        app.command(rich_help_panel=PANEL)(command)


def collect(
    games: Games = None,
    recipe: RecipeName = "demo",
    changes: Overrides = None,
    remake: Remake = False,
    storage: Storage = None,
) -> None:
    """Play games and log the replay in DQN-Replay's own file layout.

    Example: worldline collect --games Pong --set collect.steps=5000
    """
    _data("collected_replay", games, recipe, changes, storage, remake=remake)


def fetch(
    games: Games = None,
    agents: Agents = None,
    recipe: DataRecipe = "",
    changes: Overrides = None,
    storage: Storage = None,
    mirror: Mirror = "small",
    remake: Remake = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only print what the recipe's draw would download, and how long it takes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --plan: print it as JSON.")] = False,
) -> None:
    """List a bucket's replay, check it, and make the table of its episodes.

    Of logs (--storage gcs) only the small arrays are read, RL Unplugged's shards (--storage rlu) whole; 'worldline
    downsample' streams the frames that it draws. Objects are pinned to the version that was listed and verified.

    See first what a draw of 10 million transitions a game would cost:

    worldline fetch --storage gcs --games Pong,Breakout --agents 1,2 --plan

    Then fetch it, and draw another number or other episodes:

    worldline fetch --storage gcs --games Pong,Breakout --agents 1,2

    worldline downsample --storage gcs --games Pong,Breakout --agents 1,2 --set downsample.transitions=1000000

    Keep whole logs or shards on this machine, to draw from them again (resumable; all of them, whatever is drawn):

    worldline fetch --storage gcs --games Pong --agents 1 --mirror all

    Read the files as JOWA's scripts do, also where a download lacks add_count (say the same to downsample):

    worldline fetch --storage gcs --games Pong --set fetch.compat=jowa

    Example: worldline fetch --games Freeway --agents 1
    """
    if as_json and not plan:
        raise UsageError("--json prints a plan: add --plan")
    profile, store = profile_and_store(storage, remake)
    changes = [*(changes or []), f"fetch.mirror={mirror}"]
    chain = plan_of_recipe(recipe or default_recipe(profile), changes, games, profile, agents)
    if plan:
        from pipelines.commands.forecast import lines
        from pipelines.graph.fetch_estimate import prospect

        found = prospect(chain, store)
        print(json.dumps(found.to_plain(), indent=1) if as_json else "\n".join(lines(found)))
        return

    def fetched(step: Step) -> Report:
        report = make(chain, step, store)
        if mirror == "all" and report.skipped:
            from pipelines.stages.fetch import mirror_frames

            mirror_frames(report.artefact, store)
        return report

    _each(_of_stage(chain.steps("replay"), "replay"), fetched)


def downsample(
    games: Games = None,
    agents: Agents = None,
    recipe: DataRecipe = "",
    changes: Overrides = None,
    remake: Remake = False,
    storage: Storage = None,
) -> None:
    """Draw whole episodes from the replay into one compressed HDF5 per game.

    Needs what 'worldline fetch' made for the same games and agents. Frames are streamed from the bucket (or its
    mirror), several files at once, and each file is read once. How to draw is said by --set:

    downsample.transitions (how many), or downsample.fraction (a share of what the filters leave: 0.1)

    downsample.first_checkpoint, downsample.last_checkpoint (the log files in which episodes end)

    downsample.min_return, downsample.max_return (quantiles of the clipped return: 0.9 to 1 keeps the best tenth)

    downsample.replacement=true (as JOWA's script draws), downsample.seed, downsample.workers (files at once; the result
    does not depend on it)

    The last tenth of an agent's life, one per cent of it:

    worldline downsample --storage gcs --games Pong --set downsample.first_checkpoint=45 --set downsample.fraction=0.01

    Example: worldline downsample --games Freeway --set downsample.transitions=10000
    """
    _data("trajectories", games, recipe, changes, storage, agents, remake)


def segment(
    games: Games = None,
    agents: Agents = None,
    recipe: DataRecipe = "",
    changes: Overrides = None,
    remake: Remake = False,
    storage: Storage = None,
) -> None:
    """Index the training windows of drawn episodes.

    Example: worldline segment --games Freeway --set segment.stride=1
    """
    _data("segments", games, recipe, changes, storage, agents, remake)


def pretrain(experiment: ExperimentName, ranks: RankCount = 1, remake: Remake = False, storage: Storage = None) -> None:
    """Stage 1: learn the tokenizer and the world model from frames.

    Example: worldline pretrain demo
    """
    _training("pretrained", experiment, ranks, storage, remake)


def pretrain_videos(
    experiment: ExperimentName, ranks: RankCount = 1, remake: Remake = False, storage: Storage = None
) -> None:
    """Learn a world model from videos, in which nobody says what was done, for an agent to go on from.

    Example: worldline pretrain-videos reach
    """
    _training("video_pretrained", experiment, ranks, storage, remake)


def tokenize(experiment: ExperimentName, games: Games = None, remake: Remake = False, storage: Storage = None) -> None:
    """Encode every frame once with the frozen tokenizer.

    Example: worldline tokenize demo --games Freeway
    """
    _learning("tokens", experiment, games, storage, remake)


def train(experiment: ExperimentName, ranks: RankCount = 1, remake: Remake = False, storage: Storage = None) -> None:
    """Stage 2: learn the world-action model from tokens. A killed run goes on where it was.

    Example: worldline train demo --ranks 2
    """
    _training("world_action_model", experiment, ranks, storage, remake)


def learn(
    experiment: ExperimentName,
    games: Games = None,
    ranks: RankCount = 1,
    remake: Remake = False,
    storage: Storage = None,
) -> None:
    """Let an agent play, learn a world model of what it saw, and practise inside it, in rounds; a game at a time.

    Of recipes such as iris. A killed run goes on where it was, in the middle of a game. With learn.collect.steps=0 it
    plays nothing and learns from the game's trajectories.

    Example: worldline learn pong-iris
    """
    profile, _ = profile_and_store(storage)
    key, plan = plan_of_experiment(experiment, profile)
    steps = only_games(_of_stage(plan.steps("world_model_agent"), "world_model_agent"), games, plan)
    jobs = {step: Job(step.stage, key.key, step.game or "", storage or "", remake) for step in steps}
    _each(steps, lambda step: launch(jobs[step], ranks))


def report(
    published: Annotated[
        bool, typer.Option("--published", help="Print what others published, beside their raw scores; make nothing.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Write the leaderboard: one HTML page of all experiments' scores and their lineage.

    Published scores of JOWA, its baselines and the Atari-100k agents stand in a table of their own, with whether they
    follow from the raw scores that were released.

    Example: worldline report, or worldline report --published
    """
    from pipelines.graph.make import make_board

    if published:
        from pipelines.graph.summary import published as table_of_published

        printer().print(table_of_published())
        return
    _, store = profile_and_store(storage)
    members = Members()
    made = make_board(store, members=members)
    print(made)
    print(f"Open {made.artefact.path('index.html')}")
    members.end()


def _data(
    stage: str,
    games: str | None,
    recipe: str,
    changes: list[str] | None,
    storage: str | None,
    agents: str | None = None,
    remake: bool = False,
) -> None:
    profile, store = profile_and_store(storage, remake)
    plan = plan_of_recipe(recipe or default_recipe(profile), changes, games, profile, agents)
    _each(_of_stage(plan.steps(stage), stage), lambda step: make(plan, step, store))


def _each(steps: list[Step], made: Callable[[Step], Report]) -> None:
    """Make every step and print it at once, as the next may take hours; what failed is told at the end.

    A step whose blocking check failed has an artefact to look at, but has not succeeded.
    """
    members = Members()
    for step in steps:
        with members.each("/".join(str(part) for part in (step.game, step.agent) if part is not None)):
            report = made(step)
            print_once(report)
            if report.blocked:
                raise WorldlineError(
                    f"Nothing will be made from {report.artefact.ref}: the checks above say why; fetch other data, or "
                    "other agents or games"
                )
    members.end()


def _learning(stage: str, name: str, games: str | None, storage: str | None, remake: bool) -> None:
    profile, store = profile_and_store(storage, remake)
    experiment, plan = plan_of_experiment(name, profile)
    steps = only_games(_of_stage(plan.steps(stage), stage), games, plan)
    _each(steps, lambda step: make(plan, step, store, experiment))


def _training(stage: str, name: str, ranks: int, storage: str | None, remake: bool) -> None:
    profile, _ = profile_and_store(storage)
    experiment, plan = plan_of_experiment(name, profile)
    plan.steps(stage)  # refuses a stage that the recipe does not have
    print_once(launch(Job(stage, experiment.key, storage=storage or "", remake=remake), ranks))


def _of_stage(steps: list[Step], stage: str) -> list[Step]:
    return [step for step in steps if step.stage == stage]
