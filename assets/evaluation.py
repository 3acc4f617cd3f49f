"""Assets of the evaluation group: played games, and the page that compares them."""

import dagster as dg

from assets.checks import NO_DRIFT, no_drift, specs
from assets.data import collected_replay
from assets.learning import finetuned, imported, pretrained, world_action_model
from assets.partitions import EXPERIMENT_GAME, dimensions
from assets.resources import House
from assets.step import experiment_step, one_line_failures, result
from pipelines.graph.make import make_board
from pipelines.graph.plan import Step
from pipelines.graph.rounds import asked
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.report import ReportConfig
from pipelines.stages.tune import TuneConfig

GROUP = "evaluation"


class ScoresConfig(dg.Config):
    """How a checkpoint is asked to play; empty is the experiment's own evaluation.

    `round` names a re-evaluation, such as 2026-W47: the same with fresh seeds. `overrides` are `evaluate.FIELD=value`,
    or `tune.FIELD=value` to search for the settings first; scores under other settings get a name of their own.
    """

    round: str = ""
    overrides: list[str] = []  # noqa: RUF012 -- pydantic copies it


@dg.asset(
    partitions_def=EXPERIMENT_GAME,
    group_name=GROUP,
    deps=[world_action_model, pretrained, imported, finetuned],
    kinds={"atari", "torch"},
    code_version=TuneConfig.CODE,
    check_specs=specs(TuneConfig),
)
def tuned(context: dg.AssetExecutionContext, house: House) -> dg.MaterializeResult:
    """Which context, width, horizon and leaf value an experiment's planner plays a game best with.

    Every setting plays the same episodes, none of which is ever reported. Only experiments whose recipe has a `tune` to
    search over have this.
    """
    part = dimensions(context.partition_key)
    return experiment_step(house, part["experiment"], Step("tuned", part["game"]))


@dg.asset(
    partitions_def=EXPERIMENT_GAME,
    group_name=GROUP,
    deps=[world_action_model, pretrained, imported, finetuned, tuned, collected_replay],
    kinds={"atari", "torch"},
    code_version=EvaluateConfig.CODE,
    check_specs=[*specs(EvaluateConfig), NO_DRIFT],
)
def scores(context: dg.AssetExecutionContext, config: ScoresConfig, house: House) -> dg.MaterializeResult:
    """Returns of an experiment's checkpoint on one game, next to random play under the same protocol.

    Where the replay was collected here, the returns of the behaviour that made it stand beside them. A round plays with
    fresh seeds; the check `no_drift` holds it against the rounds before.
    On the demo: about 30 s a game.
    """
    part = dimensions(context.partition_key)
    with one_line_failures():
        experiment = house.experiment(part["experiment"])
        plan, store = house.plan(experiment.recipe), house.store()
        report = asked(plan, experiment, part["game"], store, config.round, config.overrides).make(store)
        return result(report, EvaluateConfig, no_drift(report.artefact, store))


@dg.asset(
    group_name=GROUP,
    deps=[dg.AssetDep(scores, partition_mapping=dg.AllPartitionMapping())],
    kinds={"html"},
    code_version=ReportConfig.CODE,
    check_specs=specs(ReportConfig),
)
def leaderboard(house: House) -> dg.MaterializeResult:
    """One self-contained HTML page of all scores: tables, learning curves, reconstruction sheets, lineage."""
    with one_line_failures():
        return result(make_board(house.store()), ReportConfig)


ASSETS = [tuned, scores, leaderboard]
