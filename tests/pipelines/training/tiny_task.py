"""The smallest real task of the training loop: two linear maps with dropout, on data that depend on the step alone."""

import math

import torch
from torch import Tensor, nn

from models.api import Losses
from pipelines.configs.learn import PhaseConfig

PHASES = (
    PhaseConfig("first", ("tokenizer",), steps=7, lr_tokenizer=0.05, warmup=3),
    PhaseConfig("second", ("tokenizer", "world"), steps=9, lr_tokenizer=0.01, lr_model=0.02, decay=True),
)


class TinyTask:
    """Predict the sum of four numbers. `stop_at` raises KeyboardInterrupt there, `break_at` gives a NaN loss."""

    def __init__(self, stop_at: int = -1, break_at: int = -1) -> None:
        torch.manual_seed(3)
        self.modules: dict[str, nn.Module] = {
            name: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)) for name in ("tokenizer", "model")
        }
        self.stop_at, self.break_at = stop_at, break_at
        self.seen: list[int] = []
        self.after: list[int] = []
        self.training: list[tuple[bool, bool]] = []

    def losses(self, phase: PhaseConfig, step: int) -> dict[str, Losses]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(step)
        self.training.append((self.modules["tokenizer"].training, self.modules["model"].training))
        found = {}
        for objective in phase.objectives:
            module = self.modules["tokenizer" if objective == "tokenizer" else "model"]
            x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
            error: Tensor = (module(x)[:, 0] - x.sum(1)).square().mean()
            if step == self.break_at and objective == phase.objectives[-1]:
                error = error * math.nan
            found[objective] = Losses(error, {f"{objective}_error": error.detach()})
        return found

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        self.after.append(step)

    def weights(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }
