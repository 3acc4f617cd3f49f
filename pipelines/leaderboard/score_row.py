"""The result: one row per agent, game and planner, and one per published result.

Normalised scores are those of environments/atari/reference_scores.py (arXiv 2410.00564); intervals are those of
statistics.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from pipelines.environments.atari import reference_scores as atari_scores
from pipelines.environments.registry import achievements
from pipelines.leaderboard.agent_scores import Entry, Sample
from pipelines.leaderboard.drift import Conditions
from pipelines.leaderboard.statistics import LEAST, ranks, run_interval

LEAST_EPISODES = 2  # one episode says nothing about chance


@dataclass(frozen=True)
class ScoreRow:
    """Returns are raw points per episode; `hns` and `dns` are fractions (1.0 = 100%); None = not measured or not known.

    `agent` is the name of its experiments; `runs` holds the returns of every episode by training run, of which `seeds`
    counts those whose training is known. `evaluations` were pooled. `mean` is the mean over runs of their means; `low`
    and `high` bound it with 95% (so do those of `hns` and `dns`). `replays_rom` says whether the ROM is the one behind
    DQN-Replay. `share` is how far the agent came from random play to the behaviour data: (mean - random) / (behaviour -
    random), where both played by the same rules. `limits` says where an evaluation is weaker than the protocol asks,
    `apart` what could not be pooled, `drift` where the newest of the pooled evaluations contradicts the others,
    `unranked` why the row has no rank; all are words, empty when there is nothing to say. `sources` are the addresses
    of its scores, or a citation.
    """

    agent: str
    game: str
    planner: str
    kind: Literal["ours", "published"] = "ours"
    experiments: tuple[str, ...] = ()
    settings: str = ""
    protocol: str = "not recorded"
    emulator: str = ""
    rom_md5: str = ""
    replays_rom: bool | None = None
    seeds: int | None = None
    evaluations: int = 1
    episodes: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    std: float | None = None
    median: float | None = None
    iqm: float | None = None
    clipped_mean: float | None = None
    mean_length: float | None = None
    random_mean: float | None = None
    behaviour_mean: float | None = None
    share: float | None = None
    hns: float | None = None
    hns_low: float | None = None
    hns_high: float | None = None
    dns: float | None = None
    dns_low: float | None = None
    dns_high: float | None = None
    best_rank: int | None = None
    worst_rank: int | None = None
    limits: str = ""
    apart: str = ""
    drift: str = ""
    unranked: str = ""
    sources: tuple[str, ...] = ()
    runs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def returns(self) -> tuple[float, ...]:
        """Every episode's return, run by run."""
        return tuple(value for run in self.runs.values() for value in run)

    @property
    def rank(self) -> tuple[int, int] | None:
        """Best and worst rank; None without one."""
        return None if self.best_rank is None or self.worst_rank is None else (self.best_rank, self.worst_rank)

    @property
    def conditions(self) -> Conditions:
        """What must be equal in two rows that are compared."""
        counts = sorted({len(run) for run in self.runs.values()} or {self.episodes})
        fewest_and_most = tuple(dict.fromkeys((counts[0], counts[-1])))
        played = self.rom_md5 or (
            self.emulator if achievements(self.game) else ""
        )  # a game without a ROM is its package
        return Conditions(self.protocol, played, "" if played else "; ".join(self.sources), fewest_and_most)


def score_rows(samples: Sequence[Sample]) -> list[ScoreRow]:
    """All rows, in the order of the samples, greedy before the planners that search; not ranked yet."""
    return [_measured(_headline(sample)) for sample in samples]


def published_rows() -> list[ScoreRow]:
    """A row per published method and game; its interval where the authors released every episode."""
    return [
        _measured(
            ScoreRow(
                agent=found.agent,
                game=game,
                planner=found.planner,
                kind="published",
                protocol=found.protocol,
                episodes=found.episodes,
                mean=mean,
                sources=(found.source,),
                runs={found.method: found.returns[game]} if game in found.returns else {},
            )
        )
        for found in atari_scores.publications()
        for game, mean in found.means.items()
    ]


def rank(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """The rows with their ranks among those of the same game and conditions; rows that say why not get none."""
    blocks: dict[tuple[str, Conditions], list[int]] = {}
    for place, row in enumerate(rows):
        if not row.unranked:
            blocks.setdefault((row.game, row.conditions), []).append(place)
    found = list(rows)
    for places in blocks.values():
        if len(places) < 2:  # the first of one is no rank
            continue
        for place, (best, worst) in zip(places, ranks([run_interval(rows[at].runs) for at in places]), strict=True):
            found[place] = replace(rows[place], best_rank=best, worst_rank=worst)
    return found


def _headline(sample: Sample) -> ScoreRow:
    newest, planner = sample.newest, sample.planner
    mine = sample.episodes[sample.episodes["planner"] == planner]
    row = _with_statistics(
        ScoreRow(
            agent=sample.agent,
            game=sample.game,
            planner=planner,
            experiments=sample.experiments,
            settings=_settings(sample, planner),
            protocol=str(newest.score.manifest.config.get("protocol", "")) or "not recorded",
            emulator=str(newest.rom.get("emulator", "")),
            rom_md5=str(newest.rom.get("rom_md5", "")),
            replays_rom=newest.rom.get("replays_rom"),
            seeds=sample.seeds,
            random_mean=_random(sample),
            behaviour_mean=newest.number("behaviour", "mean"),
            limits=_limits(sample, planner, mine),
            apart="; ".join(sample.apart),
            drift="; ".join(sample.drifts),
            sources=sample.sources,
            runs=sample.returns,
        ),
        sample,
        mine,
    )
    return replace(row, share=share(row.mean, row.random_mean, row.behaviour_mean) if _same_rules(newest) else None)


def _with_statistics(row: ScoreRow, sample: Sample, mine: pd.DataFrame) -> ScoreRow:
    """Of all episodes, runs weighing equally in the mean; what the newest score says where none came with any."""
    if not row.runs:
        known = partial(sample.newest.number, row.planner)
        episodes = int(known("episodes") or 0)
        return replace(
            row,
            episodes=episodes,
            mean=known("mean"),
            std=known("std") if episodes > 1 else None,
            median=known("median"),
            iqm=known("iqm"),
            clipped_mean=known("clipped_mean"),
            mean_length=known("mean_length"),
        )

    def mean_of(column: str) -> float | None:
        return float(mine[column].astype(float).mean()) if column in mine and mine[column].notna().all() else None

    return replace(
        row,
        evaluations=int(mine["evaluation"].nunique()),
        episodes=len(mine),
        mean=float(np.mean([np.mean(run) for run in row.runs.values()])),
        std=float(np.std(row.returns, ddof=1)) if len(mine) > 1 else None,
        median=float(np.median(row.returns)),
        iqm=atari_scores.iqm(row.returns),
        clipped_mean=mean_of("clipped_return"),
        mean_length=mean_of("length"),
    )


def _random(sample: Sample) -> float | None:
    """Mean return of random play, next to all runs."""
    table = sample.episodes
    found = table.loc[table["planner"] == "random", "return"]
    return float(found.mean()) if len(found) else sample.newest.number("random", "mean")


def _measured(row: ScoreRow) -> ScoreRow:
    """The row with what follows from its mean and its episodes: intervals, normalised scores, why it has no rank."""
    bounds: list[float | None] = [None, None]
    if _enough(row):
        interval = run_interval(row.runs)
        bounds = [interval.low, interval.high]
    hns, hns_low, hns_high = (_normalised(row.game, value, "human") for value in (row.mean, *bounds))
    dns, dns_low, dns_high = (_normalised(row.game, value, "dqn") for value in (row.mean, *bounds))
    return replace(
        row,
        low=bounds[0],
        high=bounds[1],
        hns=hns,
        hns_low=hns_low,
        hns_high=hns_high,
        dns=dns,
        dns_low=dns_low,
        dns_high=dns_high,
        unranked=_unranked(row),
    )


def _enough(row: ScoreRow) -> bool:
    return len(row.returns) >= LEAST_EPISODES


def _unranked(row: ScoreRow) -> str:
    if row.limits:
        return "limited"
    if not row.runs:
        return "mean only, no interval"
    if not _enough(row):
        return "one episode, no interval"
    return "" if len(row.returns) >= LEAST else f"fewer than {LEAST} episodes"


def _settings(sample: Sample, planner: str) -> str:
    """How the planner chose, as the evaluation resolved it: "context 4, epsilon 0.001, width 2, horizon 3"."""
    manifest = sample.newest.score.manifest
    recorded = manifest.metrics.get(planner, {}).get("settings")
    if isinstance(recorded, Mapping):
        return ", ".join(f"{name} {value}" for name, value in recorded.items())
    config = manifest.config  # of scores made before settings were recorded
    own = [name for name in ("width", "horizon") if config.get(f"{planner}_{name}") is not None]
    return ", ".join(f"{name} {config[f'{planner}_{name}']}" for name in own)


def share(mean: float | None, random_mean: float | None, behaviour_mean: float | None) -> float | None:
    """How far from random (0) to the behaviour data (1); None when unknown or the data is no better than random."""
    if mean is None or random_mean is None or behaviour_mean is None or behaviour_mean <= random_mean:
        return None
    return (mean - random_mean) / (behaviour_mean - random_mean)


def _same_rules(entry: Entry) -> bool:
    """Whether the behaviour was collected by the rules that the agent plays by, as far as both are known.

    Collecting draws no no-ops; that it stops at 27,000 steps and `jowa` at 108,000 is passed over.
    """
    roots = [root for found in entry.of("collected_replay", entry.game) for root in found.manifest.roots]
    sticky = {root["sticky"] for root in (*roots, entry.rom) if "sticky" in root}
    return len(sticky) < 2 and not (roots and entry.rom.get("noop_max"))


def _normalised(game: str, mean: float | None, against: atari_scores.Against) -> float | None:
    known = atari_scores.reference(game)
    if mean is None or known is None or getattr(known, against) is None:
        return None
    return atari_scores.normalised(game, mean, against)


def _limits(sample: Sample, planner: str, mine: pd.DataFrame) -> str:
    """Fewer episodes than the greedy policy played, or episodes that were cut: a return then is a lower bound."""
    said, newest, table = [], sample.newest, sample.episodes
    count, full = newest.number(planner, "episodes"), newest.number("greedy", "episodes")
    if len(mine):
        count, full = len(mine), int((table["planner"] == "greedy").sum()) or None
    if count is not None and full is not None and count < full:
        said.append(f"{count:.0f} {'episode' if count == 1 else 'episodes'} instead of {full:.0f}")
    cut = int((mine["ended"] == "limit").sum())
    steps = newest.number(planner, "max_steps") or newest.score.manifest.config.get("max_steps") or None
    if cut:
        after = f" after {steps:,.0f} steps" if steps is not None else " by a step limit"
        said.append(f"{cut} of {len(mine)} cut{after}")
    elif steps is not None and mine.empty:
        said.append(f"at most {steps:,.0f} steps an episode")
    return "; ".join(said)
