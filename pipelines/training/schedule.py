"""A training's schedule as data: phases on stored data, or rounds of collecting and learning; both unroll to one list.

The list's items are Update, Collect and Keep. The loop walks it, and the place in it is the state of a run. Objectives
are those of the model family (`models.family.Objective`). Importing this imports no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from models.family import AgentConfig, Family, option
from models.limits import Count, Natural, Positive, Share, Weight
from pipelines.errors import UsageError, unknown
from pipelines.store.stage_config import require


@dataclass(frozen=True)
class Use:
    """One objective in every step of a phase: `name` is the family's, `batch` the rows that it reads.

    `lr` is the learning rate of the networks that it trains; `target_every` the steps between hard updates of target
    networks, where it has some.
    """

    name: str
    batch: Count
    lr: Positive = 1e-4
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


@dataclass(frozen=True)
class Practice:
    """One objective in every round: `updates` steps of `batch` rows, from round `start` on."""

    name: str
    batch: Count
    updates: Count
    lr: Positive = 1e-4
    start: Natural = 0
    weight_decay: Weight = 0.01
    clip: Positive = 1.0
    target_every: Count = 1000


@dataclass(frozen=True)
class Rounds:
    """`count` rounds: play `collect` steps (in the first `until` rounds), then practise each objective in turn.

    Optimisers go on from round to round. The checkpoint is kept and played every `evaluate_every` rounds (0: never).
    """

    name: str
    count: Count
    uses: tuple[Practice, ...]
    collect: Natural = 0
    epsilon: Share = 0.0
    until: Natural = 0
    evaluate_every: Natural = 0

    def __post_init__(self) -> None:
        if not self.uses:
            raise UsageError(f"Rounds '{self.name}' practise nothing: name at least one objective")
        require(self, f"rounds.{self.name}")
        for use in self.uses:
            require(use, f"rounds.{self.name}.uses.{use.name}")


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
    """Play so many agent steps in the environment, with random actions by chance `epsilon`."""

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
    for number in range(rounds.count):
        if rounds.collect and number < (rounds.until or rounds.count):
            yield Collect(rounds.collect, rounds.epsilon, start)
        for use in rounds.uses:
            if number < use.start:
                continue
            steps = use.updates * (rounds.count - use.start)
            phase = Phase(
                f"{rounds.name}/{use.name}",
                steps,
                (Use(use.name, use.batch, use.lr, use.target_every),),
                weight_decay=use.weight_decay,
                clip=use.clip,
            )
            first = done[use.name]
            done[use.name] += use.updates
            yield Update(phase, first, use.updates, start, last=done[use.name] == steps)
            start += use.updates
        if rounds.evaluate_every and (number + 1) % rounds.evaluate_every == 0:
            yield Keep(start, play=True)


def check_phases(phases: Sequence[Phase], family: Family, config: AgentConfig, where: str = "stage") -> None:
    """Raises UsageError for an objective that the family lacks, for two that train one network, for two phases of one
    name, and for an objective that cannot be taken in parts and would be."""
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise UsageError(f"Phases {', '.join(names)} share a name: give each one of its own")
    for phase in phases:
        for name in phase.objectives:
            if name not in family.objectives:
                raise unknown(f"objective of phase '{phase.name}'", name, family.objectives, f"those of {family.name}")
            if phase.accumulate > 1 and (why := config.whole_batches(name)):
                raise UsageError(f"Phase '{phase.name}' has accumulate {phase.accumulate}, but {why}")
        trained = [network for name in phase.objectives for network in family.objectives[name].trains]
        if twice := sorted({name for name in trained if trained.count(name) > 1}):
            raise UsageError(
                f"Phase '{phase.name}': objectives {', '.join(phase.objectives)} train the same network "
                f"('{twice[0]}'), name one of them"
            )
