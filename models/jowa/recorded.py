"""The dropout in golden files' Q heads, found in a file and drawn again.

The original's ensemble captures its members in training mode, so the 1 % dropout in the first hidden layer of `head_q`
and `head_q_target` stays on when the model is put in eval mode. Our heads do switch it off and so disagree with a
recording by up to a half in `logits_q`. But the dropped units can be read off `forward/logits_q` and the
`forward/logits_q_target` that is drawn next: dropping none, one or two units explains almost every row. The pattern is
then looked for in the random streams of small seeds. From there on every draw is known: the heads of each forward pass
draw in turn, one float64 a unit.
Cost on the golden files: 0.05 s; a pattern that is in no stream is given up after 6 s.
Shapes: Q members, N rows, H hidden units.
"""

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.blocks.ensemble import EnsembleMLP
from models.jowa.model import HeadModule, Jowa
from models.parity import TOLERANCE

SEEDS = (*range(256), 1234, 12345, 1337)
LONGEST_SKIP = 3_000_000  # float64 draws that may come before the first forward pass
MOST_PAIRS = 6_000  # of hidden units; wider heads are read with at most one unit dropped a row


class ReplayedDropout(nn.Module):
    """Dropout that is always on and draws from its own generator, one float64 a unit in memory order."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate, self.generator = rate, generator

    def forward(self, x: Tensor) -> Tensor:
        # PyTorch's own dropout draws float64 too, but by other means on other processors.
        keep = torch.rand(x.shape, dtype=torch.float64, generator=self.generator) < 1 - self.rate
        return x * keep / (1 - self.rate)


class GivenDropout(nn.Module):
    """Drops the units that a mask (N, H) says, alike in all members."""

    def __init__(self, rate: float, keep_NH: Tensor) -> None:
        super().__init__()
        self.rate, self.keep_NH = rate, keep_NH

    def forward(self, x_QNH: Tensor) -> Tensor:
        return x_QNH * self.keep_NH / (1 - self.rate)


def replay_dropout(model: Jowa, generator: torch.Generator) -> None:
    """Give both Q heads the dropout that a recording drew from `generator`."""
    for head in (model.head_q, model.head_q_target):
        _ensemble(head).drop = ReplayedDropout(model.config.q_dropout, generator)


def find_dropout(model: Jowa, frame_ends_ND: Tensor, *logits_QNO: Tensor) -> torch.Generator | None:
    """The random stream, at the point where the recorded Q logits of these hidden states were drawn from it.

    frame_ends_ND: (N, D) what the Q heads read; logits_QNO: (Q, N, A * Z) what the recording says of the Q head and,
    where it has them, of the target head. None where no unit is seen dropped, or the pattern is in none of the streams
    of SEEDS.
    """
    heads = (model.head_q, model.head_q_target)
    read = [
        read_units(head, model.config.q_dropout, frame_ends_ND, logits)
        for head, logits in zip(heads, logits_QNO, strict=False)
    ]
    kept = torch.cat([kept_QNH.flatten() for kept_QNH in read])
    known, dropped = (kept >= 0).numpy(), np.flatnonzero((kept == 0).numpy())
    if not len(dropped):
        return None
    for seed in SEEDS:
        for offset in (0, 1):  # words of 32 bits; a float64 takes two
            if (skip := _search(seed, offset, model.config.q_dropout, dropped, known)) is not None:
                return _stream(seed, offset, skip)
    return None


@torch.no_grad()
def read_units(head: HeadModule, rate: float, frame_ends_ND: Tensor, logits_QNO: Tensor) -> Tensor:
    """(Q, N, H) int8: 1 a kept unit, 0 a dropped one, -1 in rows that no one or two dropped units explain."""
    ensemble = _ensemble(head)
    hidden = ensemble.params[0].shape[1]
    kept_QNH = torch.full((len(logits_QNO), len(frame_ends_ND), hidden), -1, dtype=torch.int8)
    own = ensemble.drop
    for dropped in range(3 if hidden * (hidden - 1) // 2 <= MOST_PAIRS else 2):
        keep_CH = torch.ones(max(1, len(list(combinations(range(hidden), dropped)))), hidden)
        for row, units in enumerate(combinations(range(hidden), dropped)):
            keep_CH[row, list(units)] = 0
        ensemble.drop = GivenDropout(rate, keep_CH)
        for row in (kept_QNH[..., 0] < 0).any(0).nonzero()[:, 0].tolist():
            ours_QCO = ensemble(frame_ends_ND[row].expand(len(keep_CH), -1))
            errors_QC = (ours_QCO - logits_QNO[:, row, None]).abs().amax(-1) / logits_QNO[:, row, None].abs().amax(-1)
            best_Q = errors_QC.min(1)
            found_Q = (best_Q.values < TOLERANCE) & (kept_QNH[:, row, 0] < 0)
            kept_QNH[found_Q, row] = keep_CH[best_Q.indices[found_Q]].to(torch.int8)
    ensemble.drop = own
    return kept_QNH


def _search(seed: int, offset: int, rate: float, dropped: NDArray[np.int64], known: NDArray[np.bool_]) -> int | None:
    """Draws before the first place in the stream where all `dropped`, and no other `known` unit, would be dropped."""
    draws = torch.rand(LONGEST_SKIP + len(known), dtype=torch.float64, generator=_stream(seed, offset, 0)).numpy()
    drops = draws >= 1 - rate
    starts = np.flatnonzero(drops[: LONGEST_SKIP + dropped[0]]) - dropped[0]
    starts = starts[starts >= 0]
    for unit in dropped[1:]:
        starts = starts[drops[starts + unit]]
    for start in starts:
        if drops[start : start + len(known)][known].sum() == len(dropped):
            return int(start)
    return None


def _stream(seed: int, offset: int, skip: int) -> torch.Generator:
    generator = torch.Generator().manual_seed(seed)
    torch.rand(offset, generator=generator)
    torch.rand(skip, dtype=torch.float64, generator=generator)
    return generator


def _ensemble(head: HeadModule) -> EnsembleMLP:
    assert isinstance(head.head_module, EnsembleMLP)
    return head.head_module
