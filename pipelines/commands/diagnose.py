"""`worldline diagnose`: why an agent's search plays as it does, on one page."""

import json
from dataclasses import replace
from typing import Annotated

import typer

from pipelines.commands.options import ExperimentName, Overrides, Remake, Storage, plan_of_experiment, profile_and_store
from pipelines.environments.registry import game_named
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph import table
from pipelines.graph.config_io import override
from pipelines.graph.make import pointer, run_config
from pipelines.graph.plan import Step
from pipelines.stages.diagnose import NUMBERS, PAGE, DiagnoseConfig, of
from pipelines.stages.evaluate import EvaluateConfig

PANEL = "Look and tidy"


def diagnose(
    experiment: ExperimentName = "demo",
    game: Annotated[str, typer.Option(help="Which game (default: the experiment's first).")] = "",
    changes: Overrides = None,
    remake: Remake = False,
    storage: Storage = None,
) -> None:
    """Say which of planner, world model and values fails where a search plays badly.

    In states of the agent's own play every action is tried for one step, in imagination and in the emulator itself,
    and both next states are valued as a search values them. Then the same seeds are played by the best Q, by the best
    imagined step, by the emulator's best step, which is what a perfect world model would gain at these values, by beam
    search, and by the emulator's rewards alone, each action held for a few steps: what a world model that foresees
    rewards would gain without any value. Only a JOWA on Atari values actions in a world of tokens, so only it can be
    diagnosed. The page has the numbers, the pictures, and the verdict in words. Takes minutes with the demo's networks.

    --set takes the fields of diagnose: diagnose.states, diagnose.every, diagnose.explore, diagnose.episodes,
    diagnose.steps (0 compares no play), diagnose.context, diagnose.width and diagnose.horizon (of the search),
    diagnose.hold (steps of rewards alone), diagnose.search.leaf (max, mean, state or none), diagnose.protocol,
    diagnose.seed.

    Example: worldline diagnose demo --game Boxing

    Example: worldline diagnose demo --game Freeway --set diagnose.states=96 --set diagnose.search.leaf=mean
    """
    profile, store = profile_and_store(storage, remake)
    found, plan = plan_of_experiment(experiment, profile)
    evaluation = plan.template(EvaluateConfig.VERB)
    if not isinstance(evaluation, EvaluateConfig):
        raise UsageError(f"Recipe '{plan.recipe.name}' scores nothing, so that nobody knows how it plays: add evaluate")
    games = plan.games(EvaluateConfig.STAGE)
    wanted = game_named(game) if game else games[0]
    if wanted not in games:
        raise UsageError(f"Game '{wanted}' is not in recipe '{plan.recipe.name}': it has {', '.join(games)}")
    for change in changes or []:
        if not change.startswith(f"{DiagnoseConfig.VERB}."):
            raise UsageError(
                f"--set '{change}' is none of a diagnosis: it takes its own fields alone, as --set diagnose.states=96"
            )
    asked = of(evaluation, context=evaluation.context, width=evaluation.beam_width, horizon=evaluation.beam_horizon)
    recipe = override(plan.recipe.but(**{DiagnoseConfig.VERB: asked}), *(changes or []))
    step = Step(DiagnoseConfig.STAGE, wanted)
    config = plan.but(recipe).config(step)
    assert isinstance(config, DiagnoseConfig)
    if config.agent is None or not store.holds(config.agent):
        raise WorldlineError(
            f"Experiment '{found.name}' has no checkpoint of {wanted} yet: make it first (worldline materialize "
            f"{found.name})"
        )
    names = [name for name in table.before(EvaluateConfig.STAGE, "trajectories") if name in plan.stages]
    shown = [ref for name in names if (ref := plan.made(Step(name, wanted))) is not None and store.holds(ref)]
    report = run_config(replace(config, trajectories=next(iter(shown), None)), store)
    name = f"{pointer(step, found)}/{report.artefact.ref.key[:8]}"
    store.point(name, report.artefact.ref)
    said = json.loads(report.artefact.path(NUMBERS).read_text())
    print(f"{report}\nName         {name}\nPage         {report.artefact.path(PAGE)}")
    for choice, (mean, error) in said["points"].items():
        print(f"{choice.capitalize():12} {mean:.4g} points, standard error {error:.2g}")
    print(f"What fails   {said['fails']}: {said['words']}")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel=PANEL)(diagnose)
