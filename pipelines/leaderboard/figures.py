"""The pictures of the page: plots made here, and what evaluation and training left in their artefacts."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.leaderboard.page import Picture, picture, pictures_of
from pipelines.leaderboard.provenance import Data, Training
from pipelines.leaderboard.ranking import AgentSummary, Comparison
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.leaderboard.statistics import Interval
from pipelines.plots import replay, scores
from pipelines.store.artefact import Draft

PANELS = {  # title -> (reference, statistic)
    "IQM HNS": ("human", "iqm"),
    "Median HNS": ("human", "median"),
    "Optimality gap": ("human", "optimality_gap"),
    "IQM DNS": ("dqn", "iqm"),
}


def aggregate_plot(blocks: Sequence[Comparison], path: Path) -> Picture:
    """Aggregates with intervals, agents in the order of the blocks."""
    lines = [
        scores.AggregateLine(
            f"{standing.label} (limited)" if standing.limited else standing.label,
            place,
            standing.kind == "ours",
            {title: _value(standing, *what) for title, what in PANELS.items() if getattr(standing, what[0])},
        )
        for place, block in enumerate(blocks)
        for standing in block.standings
    ]
    scores.draw_aggregates(lines, list(PANELS), path)
    known = [standing for block in blocks for standing in block.standings if standing.human]
    alt = "; ".join(f"{standing.label} {standing.human['iqm']:.3f}" for standing in known)
    caption = (
        "Aggregates over games with 95% stratified bootstrap intervals; the dashed line is the human (HNS) or DQN "
        "(DNS). Orange: measured here; blue: published; hollow: only means are known. Rows with a gap between them "
        "cannot be compared. A lower optimality gap is better."
    )
    return picture(path, f"IQM of human-normalised scores. {alt}", caption)


def _value(standing: AgentSummary, against: str, statistic: str) -> scores.Value:
    bounds: Interval | None = getattr(standing, f"{against}_intervals").get(statistic)
    value = getattr(standing, against)[statistic]
    return scores.Value(value, bounds.low, bounds.high) if bounds else scores.Value(value)


def profile_plot(blocks: Sequence[Comparison], path: Path) -> Picture | None:
    """Performance profiles of every agent with intervals and without limits; None where there is no such agent."""
    panels = [
        scores.ProfilePanel(
            block.title.partition(", ROM")[0],
            tuple(
                scores.ProfileCurve(label, found.thresholds, found.share, found.low, found.high)
                for label, found in block.profiles.items()
            ),
        )
        for block in blocks
        if block.profiles
    ]
    if not panels:
        return None
    scores.draw_profiles(panels, path)
    names = "; ".join(curve.label for panel in panels for curve in panel.curves)
    return picture(
        path,
        f"Performance profiles of {names}",
        "Performance profiles: the share of episodes above each human-normalised score, games and training runs "
        "weighing equally, with 95% bands. A curve that lies above another everywhere belongs to the better agent.",
    )


def score_plot(rows: Sequence[ScoreRow], path: Path) -> Picture:
    """One panel per game, in the order the games appear; agents of several experiments stand side by side."""
    panels = []
    for game in dict.fromkeys(row.game for row in rows if row.kind == "ours"):
        mine = [row for row in rows if row.game == game and row.kind == "ours"]
        agents = tuple(
            scores.Agent(f"{row.agent}\n{row.planner}", row.returns, row.low, row.high, row.mean) for row in mine
        )
        panels.append(scores.Panel(game, agents, mine[0].random_mean, mine[0].behaviour_mean))
    scores.draw_episodes(panels, path)
    alt = "; ".join(
        f"{row.game}, {row.agent}, {row.planner}: mean {row.mean:.4g}"
        for row in rows
        if row.kind == "ours" and row.mean is not None
    )
    caption = "Every evaluated episode as a dot, the mean as a bar with its 95% interval."
    return picture(path, f"Returns per episode. {alt}", caption)


def sheets(trained: Sequence[Training]) -> list[Picture]:
    """Frames next to what the models make of them."""
    return [
        picture(
            path,
            f"Frames of {game} next to what the model of stage {training.stage} reconstructs and predicts",
            f"{game}: {training.address}",
        )
        for training in trained
        for game, path in pictures_of(training.artefact, "sheet_", ".png")
    ]


def curves(trained: Sequence[Training]) -> dict[str, list[Picture]]:
    """Learning curves by the training artefact's address."""
    return {
        training.address: [
            picture(path, f"Learning curves of {training.stage}: {', '.join(training.losses)}", "Learning curves.")
            for _, path in pictures_of(training.artefact, "curves", ".png")
        ]
        for training in trained
    }


def quality_plot(behind: Sequence[Data], draft: Draft) -> Picture | None:
    """Raw return by fifth of the collection where it was recorded, else clipped return by checkpoint."""
    raw = {row.game: row.by_fifth for row in behind if row.by_fifth}
    clipped = {row.game: row.by_checkpoint for row in behind if row.by_checkpoint}
    if not raw and not clipped:
        return None
    path = draft.path("quality.png")
    if raw:
        replay.draw_returns(raw, path)
        part = "fifth of the collection"
    else:
        replay.draw_returns(clipped, path, part="checkpoint", unit="clipped")
        part = "checkpoint"
    return picture(
        path, f"Mean return of the behaviour data by {part}: {', '.join(raw or clipped)}", f"Behaviour data by {part}."
    )
