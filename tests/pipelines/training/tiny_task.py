"""The smallest real task of the training loop: two linear maps with dropout, on data that depend on the step alone."""

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Losses
from pipelines.batches.loader import rank_rows
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.schedule import Collect, Phase, Use

PHASES = (
    Phase("first", 7, (Use("tokenizer", 16, lr=0.05),), warmup=3),
    Phase("second", 9, (Use("tokenizer", 16, lr=0.01), Use("world", 16, lr=0.02)), decay=True),
)


class TinyTask:
    """Predict the sum of four numbers. `stop_at` raises KeyboardInterrupt there, `break_at` gives a NaN loss."""

    def __init__(self, stop_at: int = -1, break_at: int = -1, ranks: Ranks = ALONE) -> None:
        torch.manual_seed(3)
        self.modules: dict[str, nn.Module] = {
            name: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)) for name in ("tokenizer", "model")
        }
        self.ranks = ranks
        self.stop_at, self.break_at = stop_at, break_at
        self.seen: list[int] = []
        self.after: list[int] = []
        self.collected: list[Collect] = []
        self.training: list[tuple[bool, bool]] = []

    def optimisers(self, phase: Phase) -> dict[str, Optimizer]:
        found: dict[str, Optimizer] = {}
        for use in phase.uses:
            name = "tokenizer" if use.name == "tokenizer" else "model"
            kind = torch.optim.Adam if name == "tokenizer" else torch.optim.AdamW
            found[name] = kind(self.modules[name].parameters(), lr=use.lr, fused=True)
        for optimiser in found.values():
            for group in optimiser.param_groups:
                group["peak_lr"] = group["lr"]
        return found

    def collect(self, item: Collect) -> dict[str, float]:
        self.collected.append(item)
        return {}

    def rewind(self, turns: int) -> None:
        self.rewound = turns

    def losses(self, phase: Phase, step: int, part: int = 0) -> dict[str, Losses]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(step)
        self.training.append((self.modules["tokenizer"].training, self.modules["model"].training))
        found = {}
        for objective in phase.objectives:
            module = self.modules["tokenizer" if objective == "tokenizer" else "model"]
            x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
            mine = x[rank_rows(16, self.ranks.rank, self.ranks.world)]
            mine = mine[rank_rows(len(mine), part, phase.accumulate)]
            error: Tensor = (module(mine)[:, 0] - mine.sum(1)).square().sum() / len(x)
            if step == self.break_at and objective == phase.objectives[-1]:
                error = error * math.nan
            found[objective] = Losses(error, {f"{objective}_error": error.detach()})
        return found

    def after_step(self, phase: Phase, step: int) -> None:
        self.after.append(step)

    def tokens(self, phase: Phase) -> int:
        return 16 * 4

    def weights(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }
