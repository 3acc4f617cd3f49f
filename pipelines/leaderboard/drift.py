"""Whether an evaluation still says what earlier ones of its checkpoint said, and under which conditions it was made.

Means are compared by their 95% bootstrap intervals (statistics.py). Random play is compared too: it knows no
checkpoint, so where it moves, the emulator or the rules did. Two intervals seldom miss each other by chance: of equal
agents 2% are flagged where both sides have 16 episodes, 2 to 8% with 8 (simulated: normal, lognormal, one in three), a
third with 2; below LEAST episodes there are numbers and no verdict.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.evaluation.pool import Pool, asks_alike, by_age, circumstances, differences, planners_of, pool_of
from pipelines.leaderboard.statistics import LEAST, Interval, mean_interval
from pipelines.store.artefact import Artefact

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Conditions:
    """`rom` is the ROM's md5; where nobody recorded it, `rom` is empty and `source` says whose ROM it was.

    `episodes` were played of each game by every training run: one number, or the fewest and the most.
    """

    protocol: str
    rom: str
    source: str
    episodes: tuple[int, ...]

    @property
    def count(self) -> str:
        """The episodes in words: "16", or "8 to 16"."""
        return " to ".join(map(str, self.episodes))

    def differences(self, other: "Conditions") -> list[str]:
        """Why the two cannot be compared, in words; empty where they can."""
        said = []
        if self.protocol != other.protocol:
            said.append(f"protocol {self.protocol} against {other.protocol}")
        if self.rom != other.rom:
            said.append("another ROM" if self.rom and other.rom else "the ROM of one is not recorded")
        elif not self.rom and self.source != other.source:
            said.append("neither ROM is recorded")
        if self.episodes != other.episodes:
            said.append(f"{self.count} episode{'' if self.count == '1' else 's'} a game against {other.count}")
        return said


TOLD = ("torch", "numpy", "ale-py", "worldline")  # libraries whose versions may move a score


@dataclass(frozen=True)
class Compared:
    """One player's mean return now and in the pooled past, and how many episodes each mean is of."""

    planner: str
    ours: Interval
    theirs: Interval
    episodes: int
    past_episodes: int

    @property
    def verdict(self) -> str:
        """`overlap`, `APART`, or that there are too few episodes to say."""
        if min(self.episodes, self.past_episodes) < LEAST:
            return f"no verdict below {LEAST} episodes"
        return "APART" if self.apart else "overlap"

    @property
    def apart(self) -> bool:
        """Whether the means moved further than chance does, over episodes enough to say so."""
        return min(self.episodes, self.past_episodes) >= LEAST and not self.ours.overlaps(self.theirs)

    def __str__(self) -> str:
        return (
            f"{self.planner} {_told(self.ours, self.episodes)} over {self.episodes}, "
            f"before {_told(self.theirs, self.past_episodes)} over {self.past_episodes}: {self.verdict}"
        )


@dataclass(frozen=True)
class Drift:
    """`past` is a planner's pool that ended with the evaluation before this one; None where nobody was asked the same.

    `changes` are circumstances that keep the two from being pooled, `remarks` are told and decide nothing.
    """

    evaluation: Artefact
    past: Pool | None = None
    compared: tuple[Compared, ...] = ()
    changes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether anyone should look: a mean moved beyond its interval, or the circumstances changed."""
        return bool(self.changes) or any(each.apart for each in self.compared)

    def __str__(self) -> str:
        if self.past is None:
            return "the first evaluation of its kind: there is nothing to compare it with"
        parts = [str(each) for each in self.compared] or ["no episode that the past had not played already"]
        parts += [f"CHANGED: {each}" for each in self.changes]
        parts += [f"also {each}" for each in self.remarks]
        return "; ".join(parts)


def drift(evaluation: Artefact, others: Iterable[Artefact]) -> Drift:
    """Compare an evaluation with the earlier ones among `others`. Raises WorldlineError for a damaged table."""
    mine, made = planners_of(evaluation), evaluation.manifest.created
    before = [other for other in others if other.ref != evaluation.ref and other.manifest.created <= made]
    asked = {name: [other for other in before if asks_alike(other, evaluation, name)] for name in mine}
    pasts = {name: pool_of(by_age(earlier)[-1], earlier, name) for name, earlier in asked.items() if earlier}
    if not pasts:
        return Drift(evaluation)
    first, lasts = next(iter(pasts.values())), {name: past.newest for name, past in pasts.items()}
    around = [differences(circumstances(evaluation, name), circumstances(last, name)) for name, last in lasts.items()]
    compared = [_compared(evaluation, past, name) for name, past in pasts.items()]
    return Drift(
        evaluation,
        first,
        tuple(each for each in (*compared, _compared(evaluation, first, "random")) if each is not None),
        tuple(dict.fromkeys(change for changes in around for change in changes)),
        differences(_surroundings(evaluation), _surroundings(first.newest)),
    )


def _compared(evaluation: Artefact, past: Pool, planner: str) -> Compared | None:
    """Who played on both sides, on episodes that only one side played; None where there are none."""
    both = Pool((*past.members, evaluation), planner).episodes  # a seed that the past has played stays the past's
    mine, new = both["planner"] == planner, both["evaluation"] == str(evaluation.ref)
    ours, theirs = _returns(both[mine & new]), _returns(both[mine & ~new])
    if not ours or not theirs:
        return None
    return Compared(planner, mean_interval(ours), mean_interval(theirs), len(ours), len(theirs))


def _returns(table: "pd.DataFrame") -> list[float]:
    return table["return"].dropna().astype(float).tolist()


def _surroundings(artefact: Artefact) -> dict[str, str]:
    """What should not move a score, and is worth knowing where one moved."""
    manifest = artefact.manifest
    found = {name: manifest.libraries[name] for name in TOLD if name in manifest.libraries}
    found |= {name: str(manifest.machine[name]) for name in ("python", "system") if name in manifest.machine}
    found["device"] = str(manifest.metrics.get("device", "not recorded"))
    found["commit"] = manifest.git_commit[:10] + "+" * manifest.git_commit.endswith("+") or "unknown"
    return found


def _told(interval: Interval, episodes: int) -> str:
    """The bootstrap of one episode knows that episode alone: its interval says nothing."""
    bounds = f" [{interval.low:.1f}, {interval.high:.1f}]" if episodes > 1 else ""
    return f"{interval.value:.1f}{bounds}"
