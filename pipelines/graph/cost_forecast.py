"""What a recipe would cost: hours, bytes and money of every stage, from rates that this store's own artefacts measured.

Each stage says how much it makes (`StageConfig.work`), each manifest says how long that took. A rate holds for what is
alike: data of any game, networks of the same sizes on the same batches. What was never measured here stays unknown
unless a rate is given; nothing is guessed. Command: `worldline forecast`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.errors import Members, UsageError, unknown
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import plan_of
from pipelines.graph.plan import Plan
from pipelines.graph.table import GPU, Stage
from pipelines.store.artefact import Artefact
from pipelines.store.stage_config import Work
from pipelines.store.store import Store

HOUR = 3600.0
SOURCE_BYTES = "source_bytes"  # the metric of a stage that reads a bucket


@dataclass(frozen=True)
class Rate:
    """Units a second, and bytes a unit, as `artefacts` measured them; none of those where the rate was given."""

    per_second: float
    stored: float | None = None  # bytes for one unit of what is kept
    read: float | None = None  # bytes of a source for one unit of work
    artefacts: int = 0
    where: str = "given"


@dataclass(frozen=True)
class Line:
    """One stage: so many artefacts, the work in each, and at what rate. None stands for what nobody knows."""

    stage: str
    gpu: bool
    side_by_side: bool  # whether its artefacts can be made at once
    artefacts: int
    work: Work | None
    rate: Rate | None

    @property
    def hours(self) -> float | None:
        """Machine hours of all its artefacts."""
        if self.work is None or self.rate is None:
            return None
        return self.artefacts * self.work.amount / self.rate.per_second / HOUR

    def wall(self, machines: int) -> float | None:
        """Hours until all are there, with so many machines."""
        if self.hours is None:
            return None
        rounds = math.ceil(self.artefacts / machines) if self.side_by_side else self.artefacts
        return self.hours / self.artefacts * rounds

    @property
    def stored(self) -> float | None:
        """Bytes on disk of all its artefacts."""
        if self.work is None or self.rate is None or self.rate.stored is None:
            return None
        return self.artefacts * self.rate.stored * (self.work.kept[1] if self.work.kept else self.work.amount)

    @property
    def read(self) -> float | None:
        """Bytes that come from a source; 0 where it reads none."""
        if self.work is None or self.rate is None or self.rate.read is None:
            return None
        return self.artefacts * self.rate.read * self.work.amount


@dataclass(frozen=True)
class Forecast:
    """All stages of a recipe in their order, for `machines` at so much an hour with a GPU and without."""

    recipe: str
    games: int
    lines: tuple[Line, ...]
    machines: int = 1
    gpu_price: float = 0.0
    cpu_price: float = 0.0

    def money(self, line: Line) -> float | None:
        """What a stage costs."""
        return None if line.hours is None else line.hours * (self.gpu_price if line.gpu else self.cpu_price)

    def total(self, what: str) -> tuple[float, list[str]]:
        """The sum of hours, wall, stored, read or money over the stages that are known, and the names of the others."""
        values = {line.stage: self._value(line, what) for line in self.lines}
        return sum(filter(None, values.values())), [stage for stage, value in values.items() if value is None]

    def _value(self, line: Line, what: str) -> float | None:
        found = {"money": self.money, "wall": lambda each: each.wall(self.machines)}.get(what)
        return found(line) if found else getattr(line, what)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        names = ("hours", "wall", "stored", "read", "money")
        rows = [asdict(line) | {name: self._value(line, name) for name in names} for line in self.lines]
        totals = {name: self.total(name)[0] for name in names}
        return {"recipe": self.recipe, "games": self.games, "machines": self.machines, "stages": rows, "total": totals}


def forecast(
    plan: Plan, store: Store, experiments: Iterable[Experiment] = (), given: Mapping[str, float] | None = None
) -> tuple[Line, ...]:
    """A line for each stage of `plan`. `given` are rates by stage, which stand in place of measured ones.

    Raises UsageError for a given rate of a stage that the plan lacks, or that is not above 0.
    """
    given = given or {}
    for stage, rate in given.items():
        if stage not in plan.stages:
            raise unknown("stage", stage, plan.stages, f"recipe '{plan.recipe.name}' has these")
        if not 0 < rate < math.inf:
            raise UsageError(f"--rate {stage}={rate:g} is no rate: give units a second, above 0")
    steps, plans = plan.steps(), [plan_of(each, store) for each in experiments]
    found = []
    for row in plan.rows:
        template = plan.template(row.verb)
        work = template.work(plan) if template is not None else None
        count = sum(step.stage == row.name for step in steps)
        measured = _measured(row, work, store, plans) if work is not None else None
        if row.name in given:
            measured = Rate(given[row.name], measured.stored if measured else None, measured.read if measured else None)
        found.append(Line(row.name, row.pool == GPU, row.per_game, count, work, measured))
    return tuple(found)


def _measured(row: Stage, work: Work, store: Store, plans: Sequence[Plan]) -> Rate | None:
    """The rate of those that were made on the machine and device of the newest of them."""
    made = [(each, amount) for each in _alike(row, work, store, plans) if (amount := _count(each, work.unit))]
    if not made:
        return None
    newest = max((artefact for artefact, _ in made), key=lambda each: each.manifest.created)
    same = [(each, amount) for each, amount in made if _place(each) == _place(newest)]
    amounts = sum(amount for _, amount in same)
    kept = sum(_count(each, work.kept[0]) for each, _ in same) if work.kept else amounts
    sources = sum(_count(each, SOURCE_BYTES) for each, _ in same)
    return Rate(
        amounts / sum(each.manifest.cost["seconds"] for each, _ in same),
        stored=sum(each.manifest.total_bytes for each, _ in same) / kept if kept else None,
        read=sources / amounts,
        artefacts=len(same),
        where=_place(newest),
    )


def _alike(row: Stage, work: Work, store: Store, plans: Sequence[Plan]) -> Iterator[Artefact]:
    """The artefacts whose rate holds for `work`, each once, but those that took their files from another."""
    refs = {artefact.ref: artefact for artefact in store.artefacts(row.name, Members())} if not work.like else {}
    for plan in plans if work.like else ():
        template = plan.template(row.verb)
        theirs = template.work(plan) if template is not None else None
        if theirs is None or (theirs.unit, theirs.like) != (work.unit, work.like):
            continue
        for step in plan.steps():
            ref = plan.made(step) if step.stage == row.name else None
            if ref is not None and (found := store.find(ref)) is not None:
                refs[ref] = found
    for found in refs.values():
        if not found.manifest.adopted and found.manifest.cost.get("seconds", 0) > 0:
            yield found


def _count(artefact: Artefact, unit: str) -> float:
    """How much of a unit a manifest counts."""
    found = artefact.manifest.counts.get(unit, artefact.manifest.metrics.get(unit, 0))
    return float(found) if isinstance(found, int | float) else 0.0


def _place(artefact: Artefact) -> str:
    """Machine and device, in words."""
    cpus, device = artefact.manifest.machine.get("cpus"), artefact.manifest.metrics.get("device")
    return ", ".join(filter(None, [f"{cpus} CPUs", str(device or "")]))
