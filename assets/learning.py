"""Assets of the learning group: the three training stages of an experiment, one at a time in the pool `gpu`.

Times in descriptions: two shared CPU cores.
"""

import dagster as dg

from assets.checks import specs
from assets.data import segments, trajectories
from assets.partitions import EXPERIMENT_GAME, EXPERIMENTS, dimensions
from assets.pipes import training_step
from assets.resources import House
from assets.step import experiment_step
from pipelines.graph.plan import Step
from pipelines.stages.import_weights import ReleasedConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.stages.train import FinetuneConfig, PretrainConfig, TrainConfig

GROUP = "learning"
POOL = "gpu"
# Between games and experiments Dagster can infer nothing; the manifest pins the exact parents of an experiment.
ALL_GAMES = dg.AllPartitionMapping()


@dg.asset(
    partitions_def=EXPERIMENTS,
    group_name=GROUP,
    deps=[dg.AssetDep(trajectories, partition_mapping=ALL_GAMES), dg.AssetDep(segments, partition_mapping=ALL_GAMES)],
    kinds={"torch", "safetensors"},
    pool=POOL,
    code_version=PretrainConfig.CODE,
    check_specs=specs(PretrainConfig),
)
def pretrained(context: dg.AssetExecutionContext, house: House) -> dg.MaterializeResult:
    """Stage 1 of an experiment: the tokenizer and the world model, learned from the frames of all its games.

    The check `sees` compares both with what a blind model reaches on the pixels that change.
    On the demo: about 2.5 minutes.
    """
    return training_step(context, house, context.partition_key, Step("pretrained"))


@dg.asset(
    partitions_def=EXPERIMENT_GAME,
    group_name=GROUP,
    deps=[pretrained, trajectories],
    kinds={"torch", "zarr"},
    pool=POOL,
    code_version=TokenizeConfig.CODE,
    check_specs=specs(TokenizeConfig),
)
def tokens(context: dg.AssetExecutionContext, house: House) -> dg.MaterializeResult:
    """Every frame of a game's trajectories as tokens of the experiment's frozen tokenizer.

    On the demo: about 4 s a game.
    """
    part = dimensions(context.partition_key)
    return experiment_step(house, part["experiment"], Step("tokens", part["game"]))


@dg.asset(
    partitions_def=EXPERIMENTS,
    group_name=GROUP,
    deps=[
        pretrained,
        tokens,
        dg.AssetDep(segments, partition_mapping=ALL_GAMES),
        dg.AssetDep(trajectories, partition_mapping=ALL_GAMES),
    ],
    kinds={"torch", "safetensors"},
    pool=POOL,
    code_version=TrainConfig.CODE,
    check_specs=specs(TrainConfig),
)
def world_action_model(context: dg.AssetExecutionContext, house: House) -> dg.MaterializeResult:
    """Stage 2 of an experiment: the checkpoint that plays, trained on tokens to predict and to value actions.

    Trajectories are read only to measure the next-frame error on held-out frames. On the demo: about 2 minutes.
    """
    return training_step(context, house, context.partition_key, Step("world_action_model"))


@dg.asset(
    partitions_def=EXPERIMENTS,
    group_name=GROUP,
    kinds={"torch", "safetensors"},
    code_version=ReleasedConfig.CODE,
    check_specs=specs(ReleasedConfig),
)
def imported(context: dg.AssetExecutionContext, house: House) -> dg.MaterializeResult:
    """A released checkpoint in place of an experiment's training, brought in by `worldline import-jowa`.

    The manifest's roots name the two files by their sha256. Only experiments that import have this.
    """
    return experiment_step(house, context.partition_key, Step("imported"))


@dg.asset(
    partitions_def=EXPERIMENT_GAME,
    group_name=GROUP,
    deps=[world_action_model, pretrained, imported, trajectories],
    kinds={"torch", "safetensors"},
    pool=POOL,
    code_version=FinetuneConfig.CODE,
    check_specs=specs(FinetuneConfig),
)
def finetuned(context: dg.AssetExecutionContext, house: House) -> dg.MaterializeResult:
    """An experiment's checkpoint after it learned on from the best few episodes of one game, with its tokenizer.

    Only experiments that `worldline finetune` registered have this, each for its own game.
    """
    part = dimensions(context.partition_key)
    return training_step(context, house, part["experiment"], Step("finetuned", part["game"]))


ASSETS = [pretrained, tokens, world_action_model, imported, finetuned]
