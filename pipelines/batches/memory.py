"""Rules of drawing that remember: how often each episode was drawn, or what the segment from each step last lost.

"counts" draws an episode with probability (1 + count)^-power, then a step of it, each as likely (Delta-IRIS, arXiv
2406.19320: episodes that were drawn less often catch up). "losses" draws a share of a batch from the softmax over all
steps of what their segments last lost, without replacement, and the rest uniformly of the others (Simulus, arXiv
2502.11537: prioritised replay of the world model); a step that was never drawn counts as if it had lost `fresh`. Both
draw only steps whose segments have as many real steps as the objective needs (`Episodes.least`).

A memory stands at a step of its objective: it knows all draws before that one. What it draws there follows from the
seed, the step and what it knows; its state is saved with the training's. Worker processes have copies, and find out
for themselves what was drawn in between; they cannot know losses, so "losses" is drawn where these are known.
Letters: B segments of a batch, E episodes, N transitions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.family import AgentConfig, Family, option
from models.limits import Positive, Share, Weight
from models.practice.replay import prioritised
from pipelines.errors import UsageError
from pipelines.store.stage_config import require

Drawn = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Episodes (B,), and a step in each (B,)"""

Stream = Callable[[int], np.random.Generator]
"""The random numbers of a step"""


@dataclass(frozen=True)
class Draws:
    """Numbers of the rules that remember. Of "counts": power. Of "losses": the share of a batch, and fresh.

    up: the share of a batch is rounded up, as Simulus does, and not to the nearest number.
    """

    power: Weight = option(1.0)
    share: Share = option(0.3)
    fresh: Positive = option(10.0)
    up: bool = option(False)

    def __post_init__(self) -> None:
        require(self, "learn.draws")


@dataclass(frozen=True)
class Episodes:
    """Those that may be drawn now. starts: (E + 1,). lasting: (N,) numbers that stay a transition's own as others come.

    first_turn: they are all of the first turn of play. least: real steps that a drawn segment must have. left: a step
    is the last of its segment, not the first.
    """

    starts: NDArray[np.int64]
    lasting: NDArray[np.int64]
    first_turn: bool = False
    least: int = 1
    left: bool = False

    @property
    def able(self) -> NDArray[np.int64]:
        """Steps of each episode by which a segment can be drawn: (E,)."""
        return np.maximum(np.diff(self.starts) - (self.least - 1), 0)

    @property
    def skipped(self) -> int:
        """Steps at each episode's beginning by which none can."""
        return self.least - 1 if self.left else 0

    def able_rows(self) -> NDArray[np.int64]:
        """Numbers of the transitions by which a segment can be drawn, in order."""
        if self.least == 1:
            return np.arange(self.starts[-1])
        firsts = self.starts[:-1] + self.skipped
        return np.concatenate([np.arange(first, first + able) for first, able in zip(firsts, self.able, strict=True)])


class Memory(Protocol):
    """What a rule remembers of the draws of one objective."""

    def begin(self, step: int, there: Episodes) -> None:
        """Stand at `step`, with these episodes; new ones were never drawn."""

    def draw(self, step: int, count: int, stream: Stream) -> Drawn:
        """What is drawn at `step`, which is not before that where it stands."""

    def follow(self, count: int, stream: Stream, losses_B: NDArray[np.float32] | None = None) -> None:
        """The batch of the step where it stands was used, and each segment lost so much: stand at the next one."""

    def state(self) -> dict[str, Any]:
        """Arrays by name."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""


class Counts:
    """Of every episode, how often it was drawn. Draws while there is one turn of play alone are not counted."""

    def __init__(self, draws: Draws) -> None:
        self._power, self._at = draws.power, 0
        self._numbers_E, self._counts_E = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._there = Episodes(np.zeros(1, np.int64), np.zeros(0, np.int64))

    def begin(self, step: int, there: Episodes) -> None:
        """See `Memory`."""
        numbers_E = there.lasting[there.starts[:-1]]
        self._counts_E = carried(self._numbers_E, self._counts_E, numbers_E, 0)
        self._numbers_E, self._there, self._at = numbers_E, there, step

    def draw(self, step: int, count: int, stream: Stream) -> Drawn:
        """See `Memory`. It follows the draws in between."""
        if step < self._at:
            raise ValueError(f"Step {step} was drawn already: this rule stands at step {self._at}")
        while self._at < step:
            self.follow(count, stream)
        draws_B2 = stream(step).random((count, 2))
        able_E = self._there.able
        numbers = np.flatnonzero(able_E)
        counts = self._counts_E[numbers]
        least = 1.0 + counts.min()  # so that the greatest weight is 1, however often all were drawn
        until = np.cumsum(((1.0 + counts) / least) ** -self._power)
        found = np.searchsorted(until, draws_B2[:, 0] * until[-1], side="right")
        episodes = numbers[np.minimum(found, len(until) - 1)]  # a draw just below 1 may be rounded up
        return episodes, (draws_B2[:, 1] * able_E[episodes]).astype(np.int64) + self._there.skipped

    def follow(self, count: int, stream: Stream, losses_B: NDArray[np.float32] | None = None) -> None:
        """See `Memory`."""
        if not self._there.first_turn:
            np.add.at(self._counts_E, self.draw(self._at, count, stream)[0], 1)
        self._at += 1

    def state(self) -> dict[str, Any]:
        """See `Memory`."""
        return {"numbers": self._numbers_E, "counts": self._counts_E}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Memory`."""
        self._numbers_E, self._counts_E = state["numbers"], state["counts"]


class Losses:
    """Of every step, what the segment that was drawn by it lost when it was drawn last."""

    def __init__(self, draws: Draws) -> None:
        self._draws, self._at = draws, 0
        self._numbers_N, self._losses_N = np.zeros(0, np.int64), np.zeros(0, np.float32)
        self._there = Episodes(np.zeros(1, np.int64), np.zeros(0, np.int64))
        self._drawn: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))  # the newest: its step, its rows

    def begin(self, step: int, there: Episodes) -> None:
        """See `Memory`."""
        numbers_N = there.lasting[: there.starts[-1]]
        self._losses_N = carried(self._numbers_N, self._losses_N, numbers_N, self._draws.fresh)
        self._numbers_N, self._there, self._at = numbers_N, there, step

    def draw(self, step: int, count: int, stream: Stream) -> Drawn:
        """See `Memory`. Where fewer steps are left than are to be drawn uniformly, all are drawn from, and again.

        Raises ValueError for another step than that where it stands: nobody knows yet what follows.
        """
        if step != self._at:
            raise ValueError(f"Step {step} depends on losses of the steps before it: this rule stands at {self._at}")
        rng = stream(step)
        # Mixed, since an ensemble's heads learn from a part of the rows each: none is to get the hard ones alone.
        rows = rng.permutation(self.pick(count, rng))
        self._drawn = step, rows
        starts = self._there.starts
        episodes = np.searchsorted(starts, rows, side="right") - 1
        return episodes, rows - starts[episodes]

    def pick(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows among all steps: those drawn by their losses, the greatest first, then the others."""
        able = self._there.able_rows()
        here = len(able)
        first = min(prioritised(self._draws.share, count, self._draws.up), here)
        keys_N = self._losses_N[able] - np.log(-np.log(rng.random(here)))  # the greatest are a softmax's draws (Gumbel)
        chosen = np.argpartition(-keys_N, first)[:first] if first < here else np.arange(here)
        chosen = chosen[np.lexsort((chosen, -keys_N[chosen]))]
        others, rest = np.delete(np.arange(here), chosen), count - first
        more = rng.choice(others, rest, replace=False) if rest <= len(others) else rng.choice(here, rest)
        return able[np.concatenate([chosen, more]).astype(np.int64)]

    def follow(self, count: int, stream: Stream, losses_B: NDArray[np.float32] | None = None) -> None:
        """See `Memory`. Raises ValueError without losses of the batch that was drawn last."""
        step, rows = self._drawn
        if losses_B is None or step != self._at or losses_B.shape != rows.shape:
            raise ValueError(f"Step {self._at} has drawn {len(rows)} segments: say what each of them lost")
        self._losses_N[rows] = losses_B
        self._at += 1

    def state(self) -> dict[str, Any]:
        """See `Memory`."""
        return {"numbers": self._numbers_N, "losses": self._losses_N}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Memory`."""
        self._numbers_N, self._losses_N = state["numbers"], state["losses"]


def carried(numbers: NDArray[np.int64], values: NDArray[Any], now: NDArray[np.int64], new: float) -> NDArray[Any]:
    """Values by number (sorted) -> those of the numbers `now`; `new` for each that is not known."""
    found = np.full(len(now), new, values.dtype)
    if len(numbers):
        places = np.minimum(np.searchsorted(numbers, now), len(numbers) - 1)
        known = numbers[places] == now
        found[known] = values[places[known]]
    return found


MEMORIES: Mapping[str, Callable[[Draws], Memory]] = {"counts": Counts, "losses": Losses}


def require_rules(rules: Mapping[str, str], draws: Draws, config: AgentConfig, family: Family) -> None:
    """Raises UsageError for a rule by which an objective cannot be drawn, and for numbers that no rule reads.

    rules: by objective, how its segments are drawn.
    """
    able = ", ".join(name for name, objective in family.objectives.items() if objective.tells_rows) or "none"
    for name, rule in rules.items():
        if rule == "losses" and not family.objectives[name].tells_rows:
            raise UsageError(
                f"'{name}' is drawn by its losses, which it does not tell segment by segment (those of {family.name} "
                f"that do: {able}): set learn.uses.{name}.sampling to another rule"
            )
    readers = {"power": "counts", "share": "losses", "fresh": "losses", "up": "losses"}
    for number, rule in readers.items():
        if getattr(draws, number) != getattr(Draws(), number) and rule not in rules.values():
            raise UsageError(
                f"learn.draws.{number} is read where segments are drawn by {rule}, and none are: leave it out, or set "
                f"learn.sampling={rule}"
            )
