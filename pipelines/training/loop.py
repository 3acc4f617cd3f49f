"""The one training loop: phases are data, a task computes losses, everything else happens here.

It resumes bit for bit on CPU, stops on a non-finite loss, clips, schedules, logs and shows progress. The cost is the
task's; a resumable state takes about 10 ms per million parameters, at most once in `save_seconds`.
"""

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from models.api import Losses
from pipelines.configs.learn import LoopConfig, PhaseConfig
from pipelines.errors import WorldlineError
from pipelines.progress import track
from pipelines.training import optimisers as optim
from pipelines.training import state
from pipelines.training.metrics import MetricsLog
from pipelines.training.state import Position


class Task(Protocol):
    """What is trained: networks by name ("tokenizer", "model") and the losses of one step."""

    modules: dict[str, nn.Module]

    def losses(self, phase: PhaseConfig, step: int) -> dict[str, Losses]:
        """(phase, step over the whole run) -> losses by objective, on the batch that belongs to `step`."""

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        """Called after each update: target networks and the like."""


def train(task: Task, phases: tuple[PhaseConfig, ...], loop: LoopConfig, log: Path, scratch: Path, title: str) -> None:
    """Run all phases, from the saved state if `scratch` holds one; the trained networks are in `task.modules`.

    `log` is where metrics.jsonl goes in the end. Raises WorldlineError on a loss that is not finite.
    """
    position, saved = state.load_position(scratch, task.modules)
    metrics = MetricsLog(scratch / log.name, position.step)  # like the state, it survives a kill
    done_before = 0
    for index, phase in enumerate(phases):
        if index >= position.phase:
            here = max(position.step - done_before, 0)
            run = _Phase(task, phase, loop, metrics, scratch, index, done_before)
            position = run.run(here, position.seconds, saved, f"{title}: {phase.name}")
            saved = {}
        done_before += phase.steps
    shutil.copyfile(metrics.path, log)


class _Phase:
    """One phase of a run; `offset` is the number of steps before it."""

    def __init__(
        self,
        task: Task,
        phase: PhaseConfig,
        loop: LoopConfig,
        metrics: MetricsLog,
        scratch: Path,
        index: int,
        offset: int,
    ) -> None:
        self.task, self.phase, self.loop, self.metrics, self.scratch = task, phase, loop, metrics, scratch
        self.index, self.offset = index, offset
        self.optimisers = optim.for_phase(phase, task.modules)

    def run(self, first: int, seconds: float, saved: Mapping[str, dict], title: str) -> Position:
        """Steps `first`.. of the phase; returns the position from which the next phase starts."""
        for name, optimiser_state in saved.items():
            self.optimisers[name].load_state_dict(optimiser_state)
        started = last_save = time.monotonic()
        for name, module in self.task.modules.items():
            module.train(name in self.optimisers)
        with track(title, total=self.phase.steps, unit="steps") as advance:
            if first:
                advance(first)
            for step in range(first, self.phase.steps):
                optim.schedule(self.phase, self.optimisers, step)
                values = self._step(self.offset + step)
                spent = seconds + time.monotonic() - started
                if (step + 1) % self.loop.log_every == 0 or step + 1 == self.phase.steps:
                    row = {name: round(float(value), 6) for name, value in values.items()}
                    self.metrics.write(
                        {"phase": self.phase.name, "step": self.offset + step + 1, "seconds": round(spent, 2), **row}
                    )
                advance(1, note=_note(values))
                if time.monotonic() - last_save > self.loop.save_seconds:
                    last_save = time.monotonic()
                    here = Position(self.offset + step + 1, self.index, spent)
                    state.save(self.scratch, here, self.task.modules, self.optimisers)
        end = Position(self.offset + self.phase.steps, self.index + 1, seconds + time.monotonic() - started)
        state.save(self.scratch, end, self.task.modules, {})
        return end

    def _step(self, step: int) -> dict[str, Tensor | float]:
        losses = self.task.losses(self.phase, step)
        for objective, loss in losses.items():
            for name, value in {**loss.terms, "total": loss.total.detach()}.items():
                if not math.isfinite(float(value)):
                    raise WorldlineError(
                        f"Loss term '{objective}/{name}' became {float(value)} at step {step + 1} of phase "
                        f"'{self.phase.name}': lower the learning rate or train in float32 (loop.precision=float32); "
                        f"the last good state is in {self.scratch}"
                    )
        values: dict[str, Tensor | float] = {}
        for loss in losses.values():
            values.update(loss.terms)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        torch.stack([loss.total for loss in losses.values()]).sum().backward()
        for name, optimiser in self.optimisers.items():
            norm = nn.utils.clip_grad_norm_(self.task.modules[name].parameters(), self.phase.clip)
            values[f"grad_norm_{name}"] = norm.detach()
            optimiser.step()
        self.task.after_step(self.phase, step)
        return values


def _note(values: Mapping[str, Tensor | float]) -> str:
    """The losses beside the progress bar."""
    return " ".join(f"{name} {float(value):.3g}" for name, value in values.items() if not name.startswith("grad_"))
