"""The result: one row per experiment, game and planner, and one per published result.

Normalised scores are those of pipelines/atari/scores.py (arXiv 2410.00564); intervals are those of statistics.py.
Cost: 1 ms a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipelines.atari import scores as atari_scores
from pipelines.leaderboard.conditions import Conditions
from pipelines.leaderboard.entry import Entry, number
from pipelines.leaderboard.statistics import mean_interval, ranks

LEAST_EPISODES = 2  # one episode says nothing about chance


@dataclass(frozen=True)
class Headline:
    """Returns are raw points per episode; `hns` and `dns` are fractions (1.0 = 100%); None = not measured or not known.

    `low` and `high` bound the mean with 95% (so do those of `hns` and `dns`). `seeds` counts training runs.
    `replays_rom` says whether the ROM is the one behind DQN-Replay.
    `share` is how far the agent came from random play to the behaviour data: (mean - random) / (behaviour - random).
    `limits` says where an evaluation is weaker than the protocol asks, `unranked` why the row has no rank; both are
    words, empty when there is nothing to say. `source` is a score's address or a citation.
    """

    experiment: str
    game: str
    planner: str
    kind: Literal["ours", "published"] = "ours"
    settings: str = ""
    protocol: str = "not recorded"
    rom_md5: str = ""
    replays_rom: bool | None = None
    seeds: int | None = None
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
    unranked: str = ""
    source: str = ""
    returns: tuple[float, ...] = ()

    @property
    def rank(self) -> tuple[int, int] | None:
        """Best and worst rank; None without one."""
        return None if self.best_rank is None or self.worst_rank is None else (self.best_rank, self.worst_rank)

    @property
    def conditions(self) -> Conditions:
        """What must be equal in two rows that are compared."""
        return Conditions(self.protocol, self.rom_md5, "" if self.rom_md5 else self.source, self.episodes)


def headlines(entries: Sequence[Entry]) -> list[Headline]:
    """All rows, in the order of the entries, greedy before the planners that search; not ranked yet."""
    return [_measured(_headline(entry, planner)) for entry in entries for planner in entry.planners]


def published_rows() -> list[Headline]:
    """A row per published method and game; its interval where the authors released every episode."""
    return [
        _measured(
            Headline(
                experiment=found.agent,
                game=game,
                planner=found.planner,
                kind="published",
                protocol=found.protocol,
                episodes=found.episodes,
                mean=mean,
                source=found.source,
                returns=found.returns.get(game, ()),
            )
        )
        for found in atari_scores.publications()
        for game, mean in found.means.items()
    ]


def rank(rows: Sequence[Headline]) -> list[Headline]:
    """The rows with their ranks among those of the same game and conditions; rows that say why not get none."""
    blocks: dict[tuple[str, Conditions], list[int]] = {}
    for place, row in enumerate(rows):
        if not row.unranked:
            blocks.setdefault((row.game, row.conditions), []).append(place)
    found = list(rows)
    for places in blocks.values():
        if len(places) < 2:  # the first of one is no rank
            continue
        for place, (best, worst) in zip(places, ranks([mean_interval(rows[at].returns) for at in places]), strict=True):
            found[place] = replace(rows[place], best_rank=best, worst_rank=worst)
    return found


def _headline(entry: Entry, planner: str) -> Headline:
    mean = entry.number(planner, "mean")
    random_mean, behaviour_mean = entry.number("random", "mean"), entry.number("behaviour", "mean")
    return Headline(
        experiment=entry.experiment,
        game=entry.game,
        planner=planner,
        settings=_settings(entry, planner),
        protocol=str(entry.score.manifest.config.get("protocol", "")) or "not recorded",
        rom_md5=str(entry.rom.get("rom_md5", "")),
        replays_rom=entry.rom.get("replays_rom"),
        seeds=entry.seeds,
        episodes=int(entry.number(planner, "episodes") or 0),
        mean=mean,
        std=entry.number(planner, "std"),
        median=entry.number(planner, "median"),
        iqm=entry.number(planner, "iqm"),
        clipped_mean=entry.number(planner, "clipped_mean"),
        mean_length=entry.number(planner, "mean_length"),
        random_mean=random_mean,
        behaviour_mean=behaviour_mean,
        share=share(mean, random_mean, behaviour_mean),
        limits=_limits(entry, planner),
        source=str(entry.score.ref),
        returns=entry.returns(planner),
    )


def _measured(row: Headline) -> Headline:
    """The row with what follows from its mean and its episodes: intervals, normalised scores, why it has no rank."""
    bounds: list[float | None] = [None, None]
    if len(row.returns) >= LEAST_EPISODES:
        interval = mean_interval(row.returns)
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


def _unranked(row: Headline) -> str:
    if row.limits:
        return "limited"
    if not row.returns:
        return "mean only, no interval"
    return "" if len(row.returns) >= LEAST_EPISODES else "one episode, no interval"


def _settings(entry: Entry, planner: str) -> str:
    """How the planner chose, as the evaluation resolved it: "context 4, epsilon 0.001, width 2, horizon 3"."""
    recorded = entry.score.manifest.metrics[planner].get("settings")
    if isinstance(recorded, Mapping):
        return ", ".join(f"{name} {value}" for name, value in recorded.items())
    config = entry.score.manifest.config  # of scores made before settings were recorded
    own = [name for name in ("width", "horizon") if config.get(f"{planner}_{name}") is not None]
    return ", ".join(f"{name} {config[f'{planner}_{name}']}" for name in own)


def share(mean: float | None, random_mean: float | None, behaviour_mean: float | None) -> float | None:
    """How far from random (0) to the behaviour data (1); None when unknown or the data is no better than random."""
    if mean is None or random_mean is None or behaviour_mean is None or behaviour_mean <= random_mean:
        return None
    return (mean - random_mean) / (behaviour_mean - random_mean)


def _normalised(game: str, mean: float | None, against: atari_scores.Against) -> float | None:
    known = atari_scores.reference(game)
    if mean is None or known is None or getattr(known, against) is None:
        return None
    return atari_scores.normalised(game, mean, against)


def _limits(entry: Entry, planner: str) -> str:
    """Fewer episodes than the greedy policy played, or episodes that were cut: a return then is a lower bound."""
    said = []
    count, full = entry.number(planner, "episodes"), entry.number("greedy", "episodes")
    if count is not None and full is not None and count < full:
        said.append(f"{count:.0f} episodes instead of {full:.0f}")
    table = entry.episodes
    mine = table[table["planner"] == planner]
    cut = int((mine["ended"] == "limit").sum())
    steps = number(entry.score.manifest.metrics, planner, "max_steps")
    if cut:
        after = f" after {steps:,.0f} steps" if steps is not None else " by a step limit"
        said.append(f"{cut} of {len(mine)} cut{after}")
    elif steps is not None and mine.empty:
        said.append(f"at most {steps:,.0f} steps an episode")
    return "; ".join(said)
