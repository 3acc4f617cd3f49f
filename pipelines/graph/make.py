"""Make one artefact of a plan, or the leaderboard: what every command and every Dagster asset goes through."""

import importlib
from collections.abc import Collection

from pipelines.errors import UsageError
from pipelines.graph import table
from pipelines.graph.experiment import Experiment
from pipelines.graph.plan import Plan, Step
from pipelines.graph.table import DATA_STAGES
from pipelines.stages.report import ReportConfig
from pipelines.store.artefact import Report
from pipelines.store.stage_config import StageConfig
from pipelines.store.store import Store


def run_config(config: StageConfig, store: Store) -> Report:
    """Run the stage that `config` belongs to, or find its artefact (then nothing is imported)."""
    if (found := store.find(config.spec().ref)) is not None:
        return Report(found, skipped=True)
    return importlib.import_module(table.stage(config.STAGE).module).run(config, store)


def make(plan: Plan, step: Step, store: Store, experiment: Experiment | None = None) -> Report:
    """Run one step of a plan and let its name point at the result (`scores/<experiment>/<game>`)."""
    report = run_config(plan.config(step), store)
    store.point(pointer(step, experiment), report.artefact.ref)
    return report


def pointer(step: Step, experiment: Experiment | None) -> str:
    """The name people use for a step's artefact: with the experiment's key, except for plain data."""
    parts = [step.stage]
    if experiment is not None and step.stage not in DATA_STAGES:
        parts.append(experiment.key)
    elif step.stage not in DATA_STAGES:
        parts.append("unregistered")
    parts += [str(part) for part in (step.game, step.agent) if part is not None]
    return "/".join(parts)


POINTER = "leaderboard/all"


def board_config(store: Store, experiments: Collection[str] = ()) -> ReportConfig:
    """The leaderboard of all experiments, or of those whose keys are given, in the order of their names.

    Raises UsageError when there is no score at all, or none of an experiment that was asked for.
    """
    found = []
    for pointer, ref in store.pointers().items():
        stage, _, name = pointer.partition("/")
        experiment = name.partition("/")[0]
        if stage == "scores" and (not experiments or experiment in experiments) and store.find(ref) is not None:
            found.append((experiment, ref))
    if absent := sorted(set(experiments) - {experiment for experiment, _ in found}):
        raise UsageError(
            f"Experiment '{absent[0]}' has no scores in {store.root}: evaluate it first "
            f"(worldline materialize --experiment {absent[0]} --until scores)"
        )
    return ReportConfig(scores=tuple(ref for _, ref in found), names=tuple(name for name, _ in found))


def make_board(store: Store, experiments: Collection[str] = ()) -> Report:
    """Make the leaderboard, or find it. The pointer `leaderboard/all` follows only when no experiment is left out."""
    report = run_config(board_config(store, experiments), store)
    if not experiments:
        store.point(POINTER, report.artefact.ref)
    return report
