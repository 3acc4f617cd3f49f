"""Assets of the evaluation group: played games, and the page that compares them."""

import dagster as dg

from assets.checks import specs
from assets.data import collected_replay
from assets.learning import finetuned, imported, pretrained, world_action_model
from assets.partitions import EXPERIMENT_GAME, dimensions
from assets.resources import House
from assets.step import experiment_step, one_line_failures, result
from pipelines.configs.learn import EvaluateConfig
from pipelines.configs.report import ReportConfig
from pipelines.recipes.board import make_board
from pipelines.recipes.plan import Step

GROUP = "evaluation"


@dg.asset(
    partitions_def=EXPERIMENT_GAME,
    group_name=GROUP,
    deps=[world_action_model, pretrained, imported, finetuned, collected_replay],
    kinds={"atari", "torch"},
    code_version=EvaluateConfig.CODE,
    check_specs=specs(EvaluateConfig),
)
def scores(context: dg.AssetExecutionContext, house: House) -> dg.MaterializeResult:
    """Returns of an experiment's checkpoint on one game, next to random play under the same protocol.

    Where the replay was collected here, the returns of the behaviour that made it stand beside them.
    On the demo: about 30 s a game.
    """
    part = dimensions(context.partition_key)
    return experiment_step(house, part["experiment"], Step("scores", part["game"]))


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


ASSETS = [scores, leaderboard]
