"""Stage `segments`: the index of training windows over a game's trajectories, as one Parquet table.

Run: `worldline segment Freeway`.
"""

import numpy as np

from pipelines.configs.data import SegmentConfig
from pipelines.errors import UsageError
from pipelines.replay.segments import FILE_NAME, real_steps, segment_index, to_table
from pipelines.replay.trajectories import FILE_NAME as TRAJECTORIES
from pipelines.replay.trajectories import Trajectories
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store


def run(config: SegmentConfig, store: Store) -> Report:
    """Make the segment index of one game, or find it. Raises UsageError when the trajectories are of another game."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: SegmentConfig, draft: Draft) -> None:
    if config.trajectories is None:
        raise UsageError(f"Segments of {config.game} need trajectories: name their artefact")
    source = Trajectories(draft.parents[config.trajectories].path(TRAJECTORIES))
    if source.game != config.game:
        raise UsageError(f"{config.trajectories} is of {source.game}, not of {config.game}: name one of {config.game}")
    index = segment_index(source.episode_starts, config.length, config.stride, config.padding)
    to_table(index, config.game).to_parquet(draft.path(FILE_NAME), index=False)
    real = real_steps(index)
    draft.counts |= {"segments": len(index), "episodes": source.num_episodes, "transitions": len(source)}
    draft.metrics["padding_share"] = round(1 - float(real.sum()) / (len(index) * config.length), 6)
    last = np.diff(source.episode_starts)
    covered = len(np.unique(index[index[:, 2] == last[index[:, 0]], 0]))
    detail = f"the last step of {covered} of {source.num_episodes} episodes is in a segment"
    draft.check("terminals_covered", covered == source.num_episodes, detail, blocking=True)
