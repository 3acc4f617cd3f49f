"""Which rows of a batch are in hand: those of one rank, and of them one of the parts that are taken in turn."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.api import Batch
from models.jowa.loss import LossCounts
from pipelines.batches.batch import rank_rows
from pipelines.training.distributed.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Share:
    """Part `part` of `parts` of this rank's rows. What is counted or averaged here is that of the whole batch."""

    ranks: Ranks = ALONE
    part: int = 0
    parts: int = 1

    @property
    def whole(self) -> bool:
        """Whether that is all of the batch."""
        return self.ranks.world == self.parts == 1

    def part_of(self, mine: int) -> slice:
        """The part's rows among the `mine` of this rank."""
        return rank_rows(mine, self.part, self.parts)

    def count(self, mine: int, device: torch.device) -> int:
        """Rows of the whole batch, of which this rank has `mine`."""
        return mine if self.ranks.world == 1 else int(self.ranks.sum_(torch.tensor(mine, device=device)))

    def first_of(self, count: int) -> int:
        """Where this rank's rows begin in a batch of `count`."""
        return rank_rows(count, self.ranks.rank, self.ranks.world).start

    def mean(self, values: Tensor, count: int) -> Tensor | None:
        """Over the whole batch of `count` rows, where `values` are this rank's; None where these are all of it."""
        return None if self.whole else self.ranks.sum_(values.mean() * (len(values) / count))

    def counted(self, batch: Batch, tokens_per_frame: int) -> tuple[Batch, LossCounts]:
        """The part's rows of this rank's `batch`, with the counts of the whole one."""
        counts = LossCounts.from_tensor(self.ranks.sum_(LossCounts.of(batch, tokens_per_frame).as_tensor()))
        return rows_of(batch, self.part_of(len(batch.games_B))), counts


ALL = Share()


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some segments of a batch."""
    return replace(batch, **{name: tensor[rows] for name, tensor in vars(batch).items() if tensor is not None})
