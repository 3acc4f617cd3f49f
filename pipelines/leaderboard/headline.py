"""The result: one row per experiment, game and planner, and a summary where there is more than one game.

Normalised scores are those of pipelines/atari/scores.py (arXiv 2410.00564).
"""

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

from pipelines.atari import scores as atari_scores
from pipelines.leaderboard.entry import Entry, number


@dataclass(frozen=True)
class Headline:
    """Returns are raw points per episode; `share`, `hns` and `dns` are fractions (1.0 = 100%); None = not measured.

    `share` is how far the agent came from random play to the behaviour data: (mean - random) / (behaviour - random).
    `limits` says where an evaluation is weaker than the protocol asks, in words; empty when it is not.
    """

    experiment: str
    game: str
    planner: str
    settings: str
    protocol: str
    episodes: int
    mean: float | None
    std: float | None
    median: float | None
    iqm: float | None
    clipped_mean: float | None
    mean_length: float | None
    random_mean: float | None
    behaviour_mean: float | None
    share: float | None
    hns: float | None
    dns: float | None
    limits: str
    score: str


@dataclass(frozen=True)
class Summary:
    """One experiment and planner over several games; `limited` is True when any of its rows is.

    `median_share` and the normalised scores are None when no game has one; `referenced` counts human scores.
    """

    experiment: str
    planner: str
    games: int
    median_share: float | None
    referenced: int
    median_hns: float | None
    iqm_hns: float | None
    above_human: int
    limited: bool


def headlines(entries: Sequence[Entry]) -> list[Headline]:
    """All rows, in the order of the entries, greedy before the planners that search."""
    return [_headline(entry, planner) for entry in entries for planner in entry.planners]


def _headline(entry: Entry, planner: str) -> Headline:
    mean = entry.number(planner, "mean")
    random_mean, behaviour_mean = entry.number("random", "mean"), entry.number("behaviour", "mean")
    return Headline(
        experiment=entry.experiment,
        game=entry.game,
        planner=planner,
        settings=_settings(entry, planner),
        protocol=str(entry.score.manifest.config.get("protocol", "")) or "not recorded",
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
        hns=_normalised(entry.game, mean, "human"),
        dns=_normalised(entry.game, mean, "dqn"),
        limits=_limits(entry, planner),
        score=str(entry.score.ref),
    )


def _settings(entry: Entry, planner: str) -> str:
    """The planner's own settings: `beam_width` and `beam_horizon` of the config are "width 2, horizon 3"."""
    config = entry.score.manifest.config
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
    table = entry.episodes()
    mine = table[table["planner"] == planner]
    cut = int((mine["ended"] == "limit").sum())
    steps = number(entry.score.manifest.metrics, planner, "max_steps")
    if cut:
        after = f" after {steps:,.0f} steps" if steps is not None else " by a step limit"
        said.append(f"{cut} of {len(mine)} cut{after}")
    elif steps is not None and mine.empty:
        said.append(f"at most {steps:,.0f} steps an episode")
    return "; ".join(said)


def summaries(rows: Sequence[Headline]) -> list[Summary]:
    """One row per experiment and planner that was scored on more than one game."""
    groups: dict[tuple[str, str], list[Headline]] = {}
    for row in rows:
        groups.setdefault((row.experiment, row.planner), []).append(row)
    return [_summary(mine) for mine in groups.values() if len({row.game for row in mine}) > 1]


def _summary(rows: Sequence[Headline]) -> Summary:
    shares = [row.share for row in rows if row.share is not None]
    means = {row.game: row.mean for row in rows if row.mean is not None and row.hns is not None}
    human = atari_scores.aggregate(means, "human") if means else None
    return Summary(
        experiment=rows[0].experiment,
        planner=rows[0].planner,
        games=len({row.game for row in rows}),
        median_share=median(shares) if shares else None,
        referenced=human.games if human else 0,
        median_hns=human.median if human else None,
        iqm_hns=human.iqm if human else None,
        above_human=human.above if human else 0,
        limited=any(row.limits for row in rows),
    )


def write_csv(rows: Sequence[Headline], path: Path) -> None:
    """All rows with full precision; an unmeasured number is an empty cell."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Headline)])
        writer.writerows(astuple(row) for row in rows)
