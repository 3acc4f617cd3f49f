"""The assets of the graph, one a row of the table of stages, built by three factories: data, learning, evaluation.

Each is a thin sheet over `graph.make`: it resolves what is asked for, makes or finds the artefact, and shows it.
"""

from collections.abc import Callable

import dagster as dg

from assets.checks import NO_DRIFT, no_drift, specs
from assets.partitions import EXPERIMENT_GAME, EXPERIMENTS, GAME_AGENT, GAMES, step_of
from assets.pipes import training_step
from assets.resources import Installation
from assets.step import DataConfig, data_step, experiment_step, one_line_failures, result
from pipelines.graph import table
from pipelines.graph.make import make_board
from pipelines.graph.rounds import asked
from pipelines.graph.table import Stage
from pipelines.store.stage_config import Parent

PARTITIONS = {"game": GAMES, "game agent": GAME_AGENT, "experiment": EXPERIMENTS, "experiment game": EXPERIMENT_GAME}


class ScoresConfig(dg.Config):
    """How a checkpoint is asked to play; empty is the experiment's own evaluation.

    `round` names a re-evaluation, such as 2026-W47: the same with fresh seeds. `overrides` are `evaluate.FIELD=value`,
    or `tune.FIELD=value` to search for the settings first; scores under other settings get a name of their own.
    """

    round: str = ""
    overrides: list[str] = []  # noqa: RUF012 -- pydantic copies it


def data(row: Stage) -> dg.AssetsDefinition:
    """A stage of plain data, which belongs to no experiment: what is asked of it comes as run config.

    Where its partitions are experiments, they say it.
    """

    def make(context: dg.AssetExecutionContext, config: DataConfig, installation: Installation) -> dg.MaterializeResult:
        step = step_of(row.name, context.partition_key)
        if row.per == "experiment":
            return experiment_step(installation, context.partition_key, step)
        return data_step(installation, config, step, context.run.tags)

    return _asset(row, make)


def learning(row: Stage) -> dg.AssetsDefinition:
    """A stage of an experiment; one that trains runs in a process of its own."""

    def make(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult:
        key, step = context.partition_key, step_of(row.name, context.partition_key)
        experiment = key.keys_by_dimension["experiment"] if isinstance(key, dg.MultiPartitionKey) else key
        if row.trains:
            return training_step(context, installation, experiment, step)
        return experiment_step(installation, experiment, step)

    return _asset(row, make)


def evaluation(row: Stage) -> dg.AssetsDefinition:
    """Scores, which can be asked for again with fresh seeds or other settings; and the page that compares them."""

    def scores(
        context: dg.AssetExecutionContext, config: ScoresConfig, installation: Installation
    ) -> dg.MaterializeResult:
        step = step_of(row.name, context.partition_key)
        with one_line_failures():
            key = dict(context.partition_key.keys_by_dimension)["experiment"]
            experiment = installation.experiment(key)
            plan, store = installation.plan_of(experiment), installation.store()
            report = asked(plan, experiment, str(step.game), store, config.round, config.overrides).make(store)
            return result(report, row.config, no_drift(report.artefact, store))

    def board(installation: Installation) -> dg.MaterializeResult:
        with one_line_failures():
            return result(make_board(installation.store()), row.config)

    if row.name == table.BOARD:
        return _asset(row, board)
    return _asset(row, scores) if "scores" in row.name else learning(row)


def _asset(row: Stage, make: Callable[..., dg.MaterializeResult]) -> dg.AssetsDefinition:
    """What all assets take from their row."""
    checks = [*specs(row.config), *([NO_DRIFT] if NO_DRIFT.asset_key.to_user_string() == row.name else [])]
    build = dg.asset(
        name=row.name,
        description=row.about,
        partitions_def=PARTITIONS.get(row.per),
        group_name=row.kind,
        deps=[_dep(name, row) for name in parents(row)],
        kinds=set(row.kinds),
        pool=row.pool or None,
        code_version=row.config.CODE,
        check_specs=checks,
    )
    return build(make)


def parents(row: Stage) -> list[str]:
    """The stages that a row's config may read: named, or all earlier ones that make what it asks for."""
    found: list[str] = ["scores"] if row.name == table.BOARD else []
    for entry in row.config.__dataclass_fields__.values():  # type: ignore[attr-defined]
        wanted: Parent | None = entry.metadata.get("parent")
        if wanted is not None:
            found += [wanted.stage] if wanted.stage else list(table.before(row.name, wanted.makes))
    return list(dict.fromkeys(found))


def _dep(name: str, row: Stage) -> dg.AssetDep:
    """Where partitions do not follow from each other, every one of the parent's counts; the manifest pins which."""
    parent = table.stage(name)
    every = not row.per or (parent.per_game and not row.per_game and parent.per != "experiment game")
    return dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping() if every else None)


FACTORIES = {"data": data, "learning": learning, "evaluation": evaluation}
ASSETS = [FACTORIES[row.kind](row) for row in table.STAGES]
JOBS = {  # one a stage; those of many stages are in jobs.py
    (name := row.jobs[0]): dg.define_asset_job(
        name, selection=dg.AssetSelection.assets(row.name), description=row.about.splitlines()[0]
    )
    for row in table.STAGES
}
