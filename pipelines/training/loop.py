"""The one training loop: phases are data, a task computes losses, everything else happens here and in `step.py`.

It resumes bit for bit on CPU, stops on a non-finite loss, clips, schedules, logs, keeps checkpoints and shows progress,
on one rank or many. The cost is the task's; a resumable state takes about 10 ms per million parameters, at most once
in `save_seconds`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch.optim import Optimizer

from pipelines.errors import UsageError
from pipelines.progress import track
from pipelines.training import optimisers as optim
from pipelines.training import state
from pipelines.training.checkpoints import Keeper
from pipelines.training.config import LoopConfig, PhaseConfig
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.metrics import Metrics
from pipelines.training.state import Position
from pipelines.training.step import Task, Values, update


def train(
    task: Task,
    phases: tuple[PhaseConfig, ...],
    loop: LoopConfig,
    log: Path,
    scratch: Path,
    title: str,
    ranks: Ranks = ALONE,
    keeper: Keeper | None = None,
) -> None:
    """Run all phases, from the saved state if `scratch` holds one; the trained networks are in `task.modules`.

    `log` is where metrics.jsonl goes in the end, with TensorBoard's events and the kept checkpoints beside it; the
    first rank alone writes them. Raises WorldlineError on a loss that is not finite.
    """
    if not phases:
        raise UsageError(f"{title} has no phase: a recipe gives each training stage at least one")
    for phase in phases:
        if ranks.world * phase.accumulate > phase.rows:
            raise UsageError(
                f"Phase '{phase.name}' has batches of {phase.rows} for {ranks.world} ranks with {phase.accumulate} "
                "parts each: take fewer ranks or lower accumulate"
            )
    position, saved = state.load_position(scratch, task.modules, ranks)
    metrics = Metrics.open(scratch / log.name, position.step, loop.wandb) if ranks.first else Metrics()
    if keeper:
        keeper.forget_after(position.step)
    with metrics:
        done_before = 0
        for index, phase in enumerate(phases):
            if index >= position.phase:
                here = max(position.step - done_before, 0)
                run = _Phase(task, phase, loop, metrics, keeper, ranks, scratch, index, done_before)
                position = run.run(here, position.seconds, saved, f"{title}: {phase.name}")
                saved = {}
            done_before += phase.steps
    if ranks.first:
        metrics.copy_to(log)
        if keeper:
            keeper.copy_to(log.parent)


@dataclass
class _Phase:
    """One phase of a run; `offset` is the number of steps before it."""

    task: Task
    phase: PhaseConfig
    loop: LoopConfig
    metrics: Metrics
    keeper: Keeper | None
    ranks: Ranks
    scratch: Path
    index: int
    offset: int

    def run(self, first: int, seconds: float, saved: Mapping[str, dict], title: str) -> Position:
        """Steps `first`.. of the phase; returns the position from which the next phase starts."""
        optimisers = optim.for_phase(self.phase, self.task.modules, sharded=self.loop.shard and self.ranks.world > 1)
        for name, optimiser_state in saved.items():
            optimisers[name].load_state_dict(optimiser_state)
        for name, module in self.task.modules.items():
            module.train(name in optimisers)
        started = last_save = time.monotonic()
        with track(title, total=self.phase.steps, unit="steps") as advance:
            if first:
                advance(first)
            for number in range(first, self.phase.steps):
                step = self.offset + number
                optim.schedule(self.phase, optimisers, number)
                values = update(self.task, self.phase, step, optimisers, self.ranks, self.scratch)
                spent = time.monotonic() - started
                if (number + 1) % self.loop.log_every == 0 or number + 1 == self.phase.steps:
                    self._log(step + 1, seconds + spent, values)
                rate = self.task.tokens(self.phase) * (number + 1 - first) / max(spent, 1e-6)
                advance(1, note=f"{rate:,.0f} tokens/s {_note(values)}")
                kept = self.keeper is not None and self.keeper.after(step + 1)
                if self.ranks.agree(kept or time.monotonic() - last_save > self.loop.save_seconds):
                    last_save = time.monotonic()
                    self._save(Position(step + 1, self.index, seconds + spent), optimisers)
        end = Position(self.offset + self.phase.steps, self.index + 1, seconds + time.monotonic() - started)
        self._save(end, {})
        return end

    def _log(self, step: int, seconds: float, values: Values) -> None:
        row = {name: round(value, 6) for name, value in values.items()}
        self.metrics.write({"phase": self.phase.name, "step": step, "seconds": round(seconds, 2), **row})

    def _save(self, position: Position, optimisers: Mapping[str, Optimizer]) -> None:
        state.save(self.scratch, position, self.task.modules, optimisers, self.ranks)


def _note(values: Values) -> str:
    """The losses beside the progress bar."""
    return " ".join(f"{name} {value:.3g}" for name, value in values.items() if not name.startswith("grad_"))
