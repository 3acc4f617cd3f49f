"""The one training loop: a schedule is a list of items, a task computes losses, everything else happens here.

The loop walks the items (`schedule.py`): updates (`step.py`), collecting, keeping checkpoints. It resumes bit for bit
on a CPU, stops on a non-finite loss, clips, schedules, logs and shows progress, on one rank or many.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from torch.optim import Optimizer

from pipelines.errors import UsageError
from pipelines.progress import track
from pipelines.training import state
from pipelines.training.checkpoints import CheckpointManager
from pipelines.training.device import FixedThreads, Threads
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.metrics import CHECK, PLAY, Metrics
from pipelines.training.schedule import Collect, Item, Keep, LoopConfig, Phase, Schedule, Update, phases_of, unroll
from pipelines.training.state import Position
from pipelines.training.step import Trainable, Values, schedule_rates, update
from pipelines.training.training_config import check_shares


def train(
    task: Trainable,
    schedule: Schedule,
    loop: LoopConfig,
    log: Path,
    scratch: Path,
    title: str,
    ranks: Ranks = ALONE,
    manager: CheckpointManager | None = None,
    threads: Threads | None = None,
) -> Position:
    """Run a whole schedule, from the saved state if `scratch` holds one; what was trained is in `task.modules`.

    `log` is where metrics.jsonl goes in the end, with TensorBoard's events and the kept checkpoints beside it; the
    first rank alone writes them. Returns the position at the end. Raises UsageError for a schedule that ranks cannot
    share, WorldlineError on a loss that is not finite.
    """
    _check(schedule, ranks, title)
    position, saved = state.load_position(scratch, task.modules, ranks, partial(_require_fit, task, schedule))
    task.rewind(sum(isinstance(item, Collect) for item in islice(_items(loop, schedule, manager), position.item)))
    threads = threads or FixedThreads()
    threads.resume(position.threads)
    metrics = Metrics.open(scratch / log.name, position.step, loop.wandb) if ranks.first else Metrics()
    if manager:
        manager.forget_after(position.step)
    with metrics:
        run = _Run(task, loop, metrics, ranks, scratch, title, manager, threads, saved, position.ranks)
        for index, item in enumerate(_items(loop, schedule, manager)):
            if index >= position.item:
                position = run.do(item, index, position)
    if ranks.first:
        metrics.copy_to(log)
        if manager:
            manager.copy_to(log.parent)
    return position


def _items(loop: LoopConfig, schedule: Schedule, manager: CheckpointManager | None) -> Iterator[Item]:
    """What the run consists of: without a manager it keeps no checkpoint on the way."""
    if manager:
        return unroll(schedule, loop.checkpoint_every, loop.evaluate_every)
    return (item for item in unroll(schedule) if not isinstance(item, Keep))


def _check(schedule: Schedule, ranks: Ranks, title: str) -> None:
    if not schedule:
        raise UsageError(f"{title} has no phase: a recipe gives each training stage at least one")
    for phase in phases_of(schedule):
        check_shares(phase, ranks.world)


def _require_fit(task: Trainable, schedule: Schedule, saved: Mapping[str, dict]) -> None:
    """Raises ValueError where saved optimisers hold other groups of weights than those of the phase do now."""
    phases = {phase.name: phase for phase in phases_of(schedule)}
    for phase in {name.rpartition("/")[0] for name in saved}:
        for network, optimiser in task.optimisers(phases[phase]).items():
            groups = saved[f"{phase}/{network}"]["param_groups"]
            sizes = [[len(group["params"]) for group in each] for each in (groups, optimiser.param_groups)]
            if sizes[0] != sizes[1]:
                raise ValueError(f"its optimiser of '{network}' steps groups of {sizes[0]} weights, now {sizes[1]}")


@dataclass
class _Run:
    """What the items share. `saved` are the optimisers' states of a run that is resumed, "phase/network" each."""

    task: Trainable
    loop: LoopConfig
    metrics: Metrics
    ranks: Ranks
    scratch: Path
    title: str
    manager: CheckpointManager | None
    threads: Threads
    saved: Mapping[str, dict]
    computed: tuple[int, ...]  # how many ranks, in turn
    optimisers: dict[str, dict[str, Optimizer]] = field(default_factory=dict)  # by phase, by network

    def do(self, item: Update | Collect | Keep, index: int, position: Position) -> Position:
        """One item, from where `position` stands in it; returns the position behind it, which is saved."""
        started = time.monotonic()
        if isinstance(item, Update):
            self._update(item, index, position)
            if item.last:
                self.optimisers.pop(item.phase.name)
            done = item.start + item.steps
        elif isinstance(item, Keep):
            assert self.manager is not None, "only a run with a manager keeps checkpoints"
            values = self.manager.keep(item.start, item.play)
            if values and item.start not in self.metrics.checks:
                self._tell(CHECK, item.start, position.seconds, values)
            done = item.start
        else:
            values = self.task.collect(item)
            if item.number not in self.metrics.turns:  # a run that was killed behind this row tells it once
                self._tell(PLAY, item.start, position.seconds, values, turn=item.number)
            done = item.start
        end = self._position(done, index + 1, position.seconds + time.monotonic() - started)
        if not isinstance(item, Update) or item.last:
            self._save(end)
        return end

    def _update(self, item: Update, index: int, position: Position) -> None:
        phase, here = item.phase, max(position.step - item.start, 0)
        if self.computed[-1:] != (self.ranks.world,):
            self.computed += (self.ranks.world,)
        optimisers = self._optimisers_of(phase)
        for name, module in self.task.modules.items():
            module.train(name in optimisers)
        started = last_save = time.monotonic()
        with track(f"{self.title}: {phase.name}", total=phase.steps, unit="steps") as advance:
            if item.first + here:
                advance(item.first + here, held=True)
            for number in range(here, item.steps):
                step = item.start + number
                schedule_rates(phase, optimisers, item.first + number)
                with self.threads.timed(phase.name):
                    values = update(self.task, phase, step, optimisers, self.ranks, self.scratch)
                spent = time.monotonic() - started
                in_phase = item.first + number + 1
                if in_phase % self.loop.log_every == 0 or in_phase == phase.steps:
                    self._tell(phase.name, step + 1, position.seconds + spent, values)
                rate = self.task.tokens(phase) * (number + 1 - here) / max(spent, 1e-6)
                advance(1, note=f"{rate:,.0f} tokens/s {_note(values)}")
                if self.ranks.agree(time.monotonic() - last_save > self.loop.save_seconds):
                    last_save = time.monotonic()
                    self._save(self._position(step + 1, index, position.seconds + spent))

    def _position(self, step: int, item: int, seconds: float) -> Position:
        return Position(step, item, seconds, self.threads.choices(), self.computed)

    def _optimisers_of(self, phase: Phase) -> dict[str, Optimizer]:
        """Those of the phase: as they are, as they were saved, or fresh."""
        if phase.name not in self.optimisers:
            found = self.task.optimisers(phase)
            for network, optimiser in found.items():
                if (kept := self.saved.get(f"{phase.name}/{network}")) is not None:
                    optimiser.load_state_dict(kept)
            self.optimisers[phase.name] = found
        return self.optimisers[phase.name]

    def _tell(self, phase: str, step: int, seconds: float, values: Values, **first: int) -> None:
        """A row of metrics.jsonl."""
        row = {name: round(value, 6) for name, value in values.items()}
        self.metrics.write({"phase": phase, "step": step, "seconds": round(seconds, 2), **first, **row})

    def _save(self, position: Position) -> None:
        flat = {f"{phase}/{name}": each for phase, by in self.optimisers.items() for name, each in by.items()}
        state.save(self.scratch, position, self.task.modules, flat, self.ranks)


def _note(values: Values) -> str:
    """The losses beside the progress bar."""
    return " ".join(f"{name} {value:.3g}" for name, value in values.items() if not name.startswith("grad_"))
