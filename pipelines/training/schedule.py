"""A training's settings as data: its schedule, how its loop runs, and how segments are imagined. Imports no torch.

A schedule is a sequence of phases on stored data, or of rounds of collecting and learning; both unroll to one list of
Update, Collect and Keep. The loop walks it, and the place in it is the state of a run. Objectives are those of the
model family (`models.family.Objective`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from models.family import manner, option
from models.limits import Count, Few, Natural, Positive, Rate, Share, Size, Weight, Within
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import Precision
from pipelines.store.stage_config import (
    require,
)


@dataclass(frozen=True)
class LoopConfig:
    """What every training run shares, whatever it optimises."""

    precision: Precision = "auto"  # bf16 where the processor multiplies it faster than float32
    log_every: Count = 10  # steps between rows of metrics.jsonl
    save_seconds: Weight = 60.0  # between resumable states; a kill loses at most this much work
    preload_bytes: Natural = (
        2 << 30
    )  # frames are kept in memory when all games together fit into this; so are streamed tokens
    holdout_episodes: Natural = 1  # last episodes of each game, kept from training to measure on
    workers: Few = manner(0)  # processes that read ahead; batches are the same for any number
    device: Literal["auto", "cpu", "cuda"] = manner("auto")  # cuda insists on a GPU
    compile: Literal["auto", "on", "off"] = manner("auto")  # torch.compile of the transformer; auto: on a GPU
    shard: bool = manner(False)  # optimisers' states shared out over the ranks, for models that outgrow one GPU
    checkpoint_every: Natural = option(0)  # steps between kept checkpoints; 0 keeps none
    evaluate_every: Natural = option(0)  # steps between greedy plays of a kept checkpoint; 0 plays none
    evaluate_episodes: Size = option(16)  # of each game, all at once
    evaluate_steps: Natural = option(0)  # agent steps at which they are cut; 0 plays to the end
    keep_last: Count = option(5)
    keep_best: Natural = option(5)  # by mean return; of those that were played
    shuffle: Count = option(4_096)  # segments of a game that are mixed, where they are read from shards
    shards: str = manner("")  # a URL or folder with GAME.webdataset in it: where shards lie that were moved
    wandb: str = manner("")  # project of Weights & Biases to log to as well

    def __post_init__(self) -> None:
        require(self, "loop")


@dataclass(frozen=True)
class ImagineConfig:
    """How real segments are continued by the model itself (arXiv 2410.00564, imagined data)."""

    after: Natural = 20_000  # steps on real segments alone
    segments: Size = 16  # of each batch from then on, in place of as many real ones
    every: Count = 10  # steps between searches, each from as many real segments
    capacity: Annotated[int, Within(least=1, most=2**24)] = 1_024  # newest imagined segments kept; 58 kB each
    width: Size = 2  # of the beam search
    horizon: Size = 2  # imagined steps at a segment's end

    def __post_init__(self) -> None:
        require(self, "imagine")


@dataclass(frozen=True)
class Use:
    """One objective in every step of a phase: `name` is the family's, `batch` the rows that it reads.

    `lr` is the learning rate of the networks that it trains; `target_every` the steps between hard updates of target
    networks, where it has some.
    """

    name: str
    batch: Size
    lr: Rate = 1e-4
    target_every: Count = 1000


@dataclass(frozen=True)
class Phase:
    """A stretch of training with fresh optimisers, whose objectives are stepped together.

    Batches are taken in `accumulate` parts, one after the other, where memory is short. Learning rates rise linearly
    over `warmup` steps and, if `decay`, fall to a tenth by a cosine.
    """

    name: str
    steps: Count
    uses: tuple[Use, ...] = field(default=(), metadata={"inner": True})
    weight_decay: Weight = 0.01
    clip: Positive = 1.0
    warmup: Natural = 0
    decay: bool = False
    accumulate: Count = option(1)

    def __post_init__(self) -> None:
        if not self.uses or len(set(self.objectives)) < len(self.uses):
            raise UsageError(f"Phase '{self.name}' has objectives {self.objectives}: name at least one, each once")
        require(self, f"phases.{self.name}")
        for use in self.uses:
            require(use, f"phases.{self.name}.uses.{use.name}")
        if self.accumulate > self.rows:
            raise UsageError(
                f"Phase '{self.name}' takes batches of {self.rows} in {self.accumulate} parts: lower its accumulate"
            )

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of its objectives, in the order in which their losses are computed."""
        return tuple(use.name for use in self.uses)

    @property
    def rows(self) -> int:
        """The smallest batch that it takes: no more ranks and parts can share a step."""
        return min(use.batch for use in self.uses)

    def use(self, objective: str) -> Use:
        """How an objective is used."""
        return next(use for use in self.uses if use.name == objective)


Sampling = Literal["episodes", "steps", "ends", "counts", "losses"]
"""A rule by which segments are drawn from episodes: `batches.sampler.RULES`, `batches.memory.MEMORIES`"""


@dataclass(frozen=True)
class Practice:
    """One objective in every round: `updates` steps of `batch` rows, from round `start` on.

    first: steps in the very first round, where it begins there; 0: as many as in the others. sampling: how its segments
    are drawn; "stage": as the stage says.
    """

    name: str
    batch: Size
    updates: Count
    lr: Rate = 1e-4
    start: Natural = 0
    first: Natural = 0
    weight_decay: Weight = 0.01
    clip: Positive = 1.0
    target_every: Count = 1000
    sampling: Literal["stage", "episodes", "steps", "ends", "counts", "losses"] = option("stage")

    def steps_in(self, number: int) -> int:
        """Optimiser steps in round `number`, counted from 0."""
        updates = self.first if self.first and number == 0 else self.updates
        return updates if number >= self.start else 0


@dataclass(frozen=True)
class Rounds:
    """`count` rounds: play `collect` steps (in the first `until` rounds), then practise each objective in turn.

    The first round plays `first_collect` steps (0: as many as the others), with `first_epsilon`. Optimisers go on from
    round to round. The checkpoint is kept and played every `evaluate_every` rounds (0: never).
    """

    name: str
    count: Count
    uses: tuple[Practice, ...]
    collect: Natural = 0
    epsilon: Share = 0.0
    until: Natural = 0
    evaluate_every: Natural = 0
    first_collect: Natural = 0
    first_epsilon: Share = 0.0

    def __post_init__(self) -> None:
        if not self.uses:
            raise UsageError(f"Rounds '{self.name}' practise nothing: name at least one objective")
        require(self, f"rounds.{self.name}")
        for use in self.uses:
            require(use, f"rounds.{self.name}.uses.{use.name}")
            if use.start >= self.count:
                raise UsageError(
                    f"'{use.name}' begins in round {use.start} of {self.count} and would never be practised: lower its "
                    "start or raise the rounds"
                )


Schedule = Sequence[Phase | Rounds]


@dataclass(frozen=True)
class Update:
    """Steps `first` to `first + steps` of a phase; `start` counts all steps of the run before them.

    The optimisers are dropped when `last` steps of the phase are done.
    """

    phase: Phase
    first: int
    steps: int
    start: int
    last: bool


@dataclass(frozen=True)
class Collect:
    """Turn `number` of play, counted from 0: so many agent steps, with random actions by chance `epsilon`."""

    number: int
    steps: int
    epsilon: float
    start: int


@dataclass(frozen=True)
class Keep:
    """Keep a checkpoint of step `start`; with `play`, let it play first."""

    start: int
    play: bool


Item = Update | Collect | Keep


def unroll(schedule: Schedule, keep_every: int = 0, play_every: int = 0) -> Iterator[Item]:
    """The items of a run in order. Phases are cut where a checkpoint is due (steps over the whole run; 0: never)."""
    start = 0
    for part in schedule:
        if isinstance(part, Phase):
            yield from _phase(part, start, keep_every, play_every)
            start += part.steps
        else:
            for item in _rounds(part, start):
                yield item
                if isinstance(item, Update):
                    start += item.steps


def phases_of(schedule: Schedule) -> list[Phase]:
    """The phases of a schedule, and those that its rounds consist of, each once."""
    return list(dict.fromkeys(item.phase for item in unroll(schedule) if isinstance(item, Update)))


def total_steps(schedule: Schedule) -> int:
    """Optimiser steps of a whole run."""
    return sum(item.steps for item in unroll(schedule) if isinstance(item, Update))


def _phase(phase: Phase, start: int, keep_every: int, play_every: int) -> Iterator[Item]:
    done = 0
    while done < phase.steps:
        now = start + done
        due = [every - now % every for every in (keep_every, play_every) if every]
        steps = min([phase.steps - done, *due])
        yield Update(phase, done, steps, now, last=done + steps == phase.steps)
        done += steps
        after = start + done
        play = bool(play_every) and after % play_every == 0
        if play or (keep_every and after % keep_every == 0):
            yield Keep(after, play)


def _rounds(rounds: Rounds, start: int) -> Iterator[Item]:
    done = {use.name: 0 for use in rounds.uses}
    phases = {use.name: _practised(rounds, use) for use in rounds.uses}
    for number in range(rounds.count):
        if rounds.collect and number < (rounds.until or rounds.count):
            begins = number == 0 and rounds.first_collect > 0
            steps = rounds.first_collect if begins else rounds.collect
            yield Collect(number, steps, rounds.first_epsilon if begins else rounds.epsilon, start)
        for use in rounds.uses:
            if number < use.start:
                continue
            phase, first = phases[use.name], done[use.name]
            done[use.name] += (updates := use.steps_in(number))
            yield Update(phase, first, updates, start, last=done[use.name] == phase.steps)
            start += updates
        if rounds.evaluate_every and (number + 1) % rounds.evaluate_every == 0:
            yield Keep(start, play=True)


def _practised(rounds: Rounds, use: Practice) -> Phase:
    """All steps of an objective over the rounds, as one phase."""
    steps = use.updates * max(rounds.count - use.start, 0)
    if use.first and use.start == 0:
        steps += use.first - use.updates
    only = Use(use.name, use.batch, use.lr, use.target_every)
    return Phase(f"{rounds.name}/{use.name}", max(steps, 1), (only,), weight_decay=use.weight_decay, clip=use.clip)
