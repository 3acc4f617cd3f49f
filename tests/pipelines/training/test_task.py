"""Where the rows of a batch's part lie in the whole batch: what a family's draws go by."""

import torch

from models.api import FrameBatch, Moment
from pipelines.training.task import Drawn


def test_parts_of_a_ranks_rows_lie_one_after_another_in_the_whole_batch() -> None:
    """Rank 1 of 2 has rows 5 to 9 of 10, and takes them in three parts."""
    frames = torch.arange(5, 10, dtype=torch.uint8).view(5, 1, 1, 1)
    drawn = Drawn(FrameBatch(frames_nCHW=frames, games_n=torch.zeros(5).long()), torch.zeros(1), Moment(7, 5, 10))
    found = []
    for number in range(3):
        batch, moment = drawn.part(number, 3)
        assert isinstance(batch, FrameBatch) and (moment.step, moment.count) == (7, 10)
        rows = batch.frames_nCHW.flatten().tolist()
        assert rows[0] == moment.first
        found += rows
    assert found == [5, 6, 7, 8, 9]
