"""What is trained, for any model family: the family's objectives on batches of stored segments.

The task asks the family what an objective reads, feeds it, and hands the rows to `models.api.Agent`. A batch may be
spread over ranks and taken in parts; counts of the whole batch make the parts add up to its loss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Agent, Batch, FrameBatch, Learning, Losses, Moment, rows_of
from models.family import Frames
from models.registry import family_of
from pipelines.batches.loader import BatchSource, Source, rank_rows
from pipelines.errors import UsageError
from pipelines.training import checkpoints, inputs, step
from pipelines.training.device import Device
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.drawing import Drawing
from pipelines.training.inputs import ImaginedSegments
from pipelines.training.prefetch import Prefetcher
from pipelines.training.schedule import Collect, LoopConfig, Phase, Use
from pipelines.training.weight_files import outside_weights

if TYPE_CHECKING:
    from pipelines.environments.registry import Environment
    from pipelines.training.collecting import Collector


@dataclass(frozen=True)
class Drawn:
    """This rank's rows of an objective's batch, the whole batch's counts, and where the rows lie in it."""

    batch: Batch | FrameBatch
    counts: Tensor
    moment: Moment

    def part(self, number: int, of: int) -> tuple[Batch | FrameBatch, Moment]:
        """The rows that are taken in turn, and where they lie."""
        rows = len(self.batch.games_B if isinstance(self.batch, Batch) else self.batch.games_n)
        taken = rank_rows(rows, number, of)
        return rows_of(self.batch, taken), replace(self.moment, first=self.moment.first + taken.start)


class Task:
    """An agent that learns from segments. `modules` are what the loop trains and saves, by name.

    legal_GA: (games, actions) bool, the actions that each game has. objectives: all that any phase will train.
    imagined: segments that the model itself continues, mixed into the batches of segments. drawing: batches are drawn
    from episodes that may still grow, in place of the sources' segments. collector: who plays and makes them grow.
    fresh, emulators, plays_until: see `models.api.Learning`.
    """

    def __init__(
        self,
        agent: Agent,
        sources: Sequence[Source],
        objectives: Sequence[str],
        loop: LoopConfig,
        seed: int,
        device: Device,
        ranks: Ranks = ALONE,
        length: int = 8,
        legal_GA: Tensor | None = None,
        imagined: ImaginedSegments | None = None,
        drawing: Drawing | None = None,
        collector: "Collector | None" = None,
        fresh: bool = False,
        emulators: "Callable[[int, int], Environment] | None" = None,
        plays_until: int | None = None,
    ) -> None:
        self.agent, self.sources, self.loop, self.seed = agent, list(sources), loop, seed
        self.device, self.ranks, self.length, self.imagined = device, ranks, length, imagined
        self.drawing, self.collector = drawing, collector
        self.family = family_of(agent.config)
        trains = self.family.trains(tuple(objectives))
        self.modules: dict[str, nn.Module] = {name: agent.networks[name] for name in trains}
        if imagined is not None:
            self.modules["imagined"] = imagined
        if drawing is not None and (remembered := drawing.remembered()) is not None:
            self.modules["draws"] = remembered
        learning = Learning(
            seed=seed,
            legal_GA=torch.ones(0, 0, dtype=torch.bool) if legal_GA is None else legal_GA,
            autocast=device.autocast,
            mean_frames=lambda: inputs.mean_frames(self.sources, device),
            outside=outside_weights(self.family.outside(agent.config, tuple(objectives))),
            gather=ranks.gather,
            fresh=fresh,
            emulators=emulators,
            plays_until=plays_until,
        )
        try:
            agent.start(learning, objectives)
        except ValueError as error:  # models know no UsageError
            raise UsageError(f"Training cannot begin: {error}") from error
        self._feeds: dict[Phase, Prefetcher] = {}
        self._drawn: tuple[int, dict[str, Drawn]] = (-1, {})
        self._lost: dict[str, list[Tensor]] = {}  # by objective, what each segment of this step's parts lost

    def optimisers(self, phase: Phase) -> dict[str, Optimizer]:
        """Fresh optimisers of the phase, by network."""
        return step.for_phase(phase, self.agent, sharded=self.loop.shard and self.ranks.world > 1)

    def losses(self, phase: Phase, step: int, part: int = 0) -> dict[str, Losses]:
        """The loss of each objective of the phase, on one part of this rank's rows of the step's batches."""
        if part == 0:
            self._drawn, self._lost = (step, {use.name: self._draw(phase, use, step) for use in phase.uses}), {}
        at, drawn = self._drawn
        assert at == step, "parts are asked for in order"
        losses = {}
        for name, one in drawn.items():
            batch, moment = one.part(part, phase.accumulate)
            try:
                losses[name] = self.agent.loss(name, batch, one.counts, moment)
            except ValueError as error:  # of data that cannot be learned from
                raise UsageError(f"Objective '{name}' cannot go on: {error}") from error
            if (lost_B := losses[name].rows_B) is not None:
                self._lost.setdefault(name, []).append(lost_B)
        if part == phase.accumulate - 1 and self.drawing is not None:
            for name in drawn:
                self._follow(name, self.drawing)
        return losses

    def after_step(self, phase: Phase, step: int) -> None:
        """Let target networks follow."""
        for use in phase.uses:
            self.agent.after_step([use.name], step, use.target_every)

    def tokens(self, phase: Phase) -> int:
        """Tokens (or frames) that one step reads, on all ranks."""
        return sum(self.agent.work(use.name, use.batch) for use in phase.uses)

    def collect(self, item: Collect) -> step.Values:
        """Play a turn on the first rank, and read it on all. Raises UsageError where nobody plays."""
        if self.collector is None:
            raise UsageError(
                f"This stage learns from stored data and cannot collect {item.steps} steps: give it phases"
            )
        self._feeds = {}  # they end before the episodes grow
        told: step.Values = {}
        with self.ranks.first_alone():
            if self.ranks.first:
                told = self.collector.play(item.number, item.steps, item.epsilon)
            else:
                self.collector.experience.refresh()
        return told

    def rewind(self, turns: int) -> None:
        """Forget what was played after so many turns."""
        with self.ranks.first_alone():
            if self.collector is not None and self.ranks.first:
                self.collector.rewind(turns)
            elif self.collector is not None:
                self.collector.experience.refresh()

    @property
    def waited(self) -> float:
        """Seconds in which this phase's batches were waited for."""
        return sum(feed.waited for feed in self._feeds.values())

    def save(self, folder: Path) -> None:
        """Write the whole checkpoint."""
        checkpoints.save_agent(folder, self.agent)

    # ---- batches ----

    def _draw(self, phase: Phase, use: Use, step: int) -> Drawn:
        fields = self._feed(phase, step).batch(step)[use.name]
        mine = rank_rows(use.batch, self.ranks.rank, self.ranks.world)
        batch: Batch | FrameBatch
        if self._reads_frames(use):
            batch = inputs.to_frames(fields)
        else:
            batch = inputs.to_batch(fields)
            if self.imagined is not None:
                batch = self.imagined.mix(batch, step)
        if self.imagined is not None:  # each rank searches alike, in the whole batch, and learns from its own rows
            batch = rows_of(batch, mine)
        moment = Moment(step, mine.start, use.batch)
        batch = self.agent.prepare(use.name, batch, moment)
        return Drawn(batch, self.ranks.sum_(self.agent.counts(use.name, batch)), moment)

    def _feed(self, phase: Phase, step: int) -> Prefetcher:
        """The batches that the phase's objectives ask for; the feed of the phase before ends with its workers."""
        if phase not in self._feeds:
            sources, workers = self._sources(phase), self.loop.workers
            whole = self.imagined is not None
            rank, world = (0, 1) if whole else (self.ranks.rank, self.ranks.world)
            if (drawing := self.drawing) is not None:
                for use in phase.uses:
                    drawing.begin(use.name, step)
                if any(drawing.by_losses(use.name) for use in phase.uses):
                    workers = 0  # there is nothing that they could read ahead
            self._feeds = {phase: Prefetcher(sources, self.device, workers, rank=rank, world=world)}
        return self._feeds[phase]

    def _follow(self, name: str, drawing: Drawing) -> None:
        """The objective's batch was learned from: draws that go by it know of it."""
        if not drawing.by_losses(name):
            return drawing.follow(name, None)
        lost_B = self.ranks.gather(torch.cat(self._lost[name]).float())
        return drawing.follow(name, lost_B.cpu().numpy())

    def _sources(self, phase: Phase) -> Mapping[str, BatchSource]:
        """What the objectives of the phase read, by their names."""
        if self.drawing is not None:
            return {use.name: self._drawn_by(use, self.drawing) for use in phase.uses}
        single = {use.name: use.batch for use in phase.uses if self._reads_frames(use)}
        sizes = {use.name: use.batch for use in phase.uses if use.name not in single}
        return inputs.batch_sources(self.sources, sizes, single, self.seed, self.length, self.loop.preload_bytes)

    def _drawn_by(self, use: Use, drawing: Drawing) -> BatchSource:
        reads = self.family.objectives[use.name].reads
        if isinstance(reads, Frames):
            return drawing.frames(use.name, use.batch, self.agent.config.discount(use.name))
        length = self.agent.config.length(use.name) or self.length
        least = self.agent.config.least(use.name)
        return drawing.segments(use.name, use.batch, length, reads.padding, least, reads.anywhere)

    def _reads_frames(self, use: Use) -> bool:
        return isinstance(self.family.objectives[use.name].reads, Frames)
