"""Stage `segments`: cut a game's episodes into training windows, and write their index as one Parquet table.

Training takes the rule (length, stride, padding) from this artefact and computes the same windows again; the table is
for `worldline export segments` and for people.
Run: `worldline segment --games Freeway`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from models.limits import Size
from pipelines.errors import UsageError
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, StageConfig, Work, filled, parent
from pipelines.store.store import Store


@dataclass(frozen=True)
class SegmentConfig(StageConfig):
    """Cut episodes into windows of `length` steps every `stride` steps; `padding` names the side that is padded."""

    STAGE: ClassVar[str] = "segments"
    VERB: ClassVar[str] = "segment"
    DATA: ClassVar[bool] = True
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("terminals_covered",)

    game: str = filled("game", "")
    trajectories: Ref | None = parent(makes="trajectories")
    length: Size = 8
    stride: Size = 4
    padding: Literal["right", "left"] = "right"

    @property
    def subject(self) -> str:
        return self.game

    def work(self, beside: Beside) -> Work | None:
        """The transitions that are cut, where the recipe draws them."""
        drawn = getattr(beside.template("downsample"), "transitions", None)
        return None if drawn is None else Work("transitions", drawn)

    def check_frozen(self, beside: Beside) -> None:
        """Windows leave no step out, the last one least of all."""
        if self.stride > self.length:
            raise UsageError(
                f"Recipe '{beside.name}': segment.stride is {self.stride} and segment.length {self.length}: steps "
                "between two windows would be in none, lower the stride"
            )


def run(config: SegmentConfig, store: Store) -> Report:
    """Make the segment index of one game, or find it.

    Raises UsageError when the trajectories are absent or of another game.
    """
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: SegmentConfig, draft: Draft) -> None:
    import numpy as np

    from pipelines.batches.segments import FILE_NAME, read_table, real_steps, segment_index, to_table
    from pipelines.episodes import trajectories

    if config.trajectories is None:
        raise UsageError(f"Segments of {config.game} need trajectories: name their artefact")
    source = trajectories.Trajectories(draft.parents[config.trajectories].source(trajectories.FILE_NAME))
    if source.game != config.game:
        raise UsageError(f"{config.trajectories} is of {source.game}, not of {config.game}: name one of {config.game}")
    index = segment_index(source.episode_starts, config.length, config.stride, config.padding)
    to_table(index, config.game).to_parquet(draft.path(FILE_NAME), index=False)
    index = read_table(draft.folder)  # what is counted and checked is what the file says
    real = real_steps(index)
    draft.counts |= {"segments": len(index), "episodes": source.num_episodes, "transitions": len(source)}
    draft.metrics["padding_share"] = round(1 - float(real.sum()) / (len(index) * config.length), 6)
    last = np.diff(source.episode_starts)
    covered = len(np.unique(index[index[:, 2] == last[index[:, 0]], 0]))
    detail = f"the last step of {covered} of {source.num_episodes} episodes is in a segment"
    draft.check("terminals_covered", covered == source.num_episodes, detail, blocking=True)
