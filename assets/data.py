"""Assets of the data group: from play, or a bucket, to the index of training windows. Partitioned by game.

They belong to no experiment. What is asked of them comes as run config (`DataConfig`): by default the recipe `demo`.
Times in descriptions: two shared CPU cores.
"""

import dagster as dg

from assets.checks import specs
from assets.partitions import GAME_AGENT, GAMES, dimensions
from assets.resources import House
from assets.step import DataConfig, data_step
from pipelines.graph.plan import Step
from pipelines.stages.collect import CollectConfig
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.stages.segment import SegmentConfig

GROUP = "data"


@dg.asset(
    partitions_def=GAMES,
    group_name=GROUP,
    kinds={"atari", "numpy"},
    code_version=CollectConfig.CODE,
    check_specs=specs(CollectConfig),
)
def collected_replay(context: dg.AssetExecutionContext, config: DataConfig, house: House) -> dg.MaterializeResult:
    """Replay of one game, played here by a script that explores less and less.

    It is a local bucket in DQN-Replay's own file layout, so everything downstream reads it as it reads the real one.
    On the demo: 50,000 frames in about 17 s a game.
    """
    return data_step(house, config, Step("collected_replay", context.partition_key))


@dg.asset(
    partitions_def=GAME_AGENT,
    group_name=GROUP,
    deps=[collected_replay],
    kinds={"numpy", "parquet"},
    code_version=FetchConfig.CODE,
    check_specs=specs(FetchConfig),
)
def replay(context: dg.AssetExecutionContext, config: DataConfig, house: House) -> dg.MaterializeResult:
    """What one agent's logs hold: files with checksums, actions, rewards and ends, and the table of stitched episodes.

    Read from a collected replay or from the bucket of the storage profile; frames stay where they are.
    On the demo: under a second.
    """
    part = dimensions(context.partition_key)
    return data_step(house, config, Step("replay", part["game"], int(part["agent"])))


@dg.asset(
    partitions_def=GAMES,
    group_name=GROUP,
    deps=[replay],
    kinds={"hdf5"},
    code_version=DownsampleConfig.CODE,
    check_specs=specs(DownsampleConfig),
)
def trajectories(context: dg.AssetExecutionContext, config: DataConfig, house: House) -> dg.MaterializeResult:
    """Whole episodes drawn from all replays of a game, frames included, losslessly packed into one HDF5 file.

    On the demo: about 49,000 frames in half a second.
    """
    return data_step(house, config, Step("trajectories", context.partition_key))


@dg.asset(
    partitions_def=GAMES,
    group_name=GROUP,
    deps=[trajectories],
    kinds={"parquet"},
    code_version=SegmentConfig.CODE,
    check_specs=specs(SegmentConfig),
)
def segments(context: dg.AssetExecutionContext, config: DataConfig, house: House) -> dg.MaterializeResult:
    """The index of a game's training windows over its trajectories: episode, first and last step, padding.

    On the demo: about 12,000 windows in under a second.
    """
    return data_step(house, config, Step("segments", context.partition_key))


ASSETS = [collected_replay, replay, trajectories, segments]
