"""Stage `leaderboard`: scores and all that stands behind them, as one page, one table and the plots.

Writes index.html (self-contained), leaderboard.csv, scores.png and, where the collection was recorded, quality.png.
Cost: 1.1 s for two games, most of it the plots. Run: `worldline report`.
"""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from pipelines.configs.report import ReportConfig
from pipelines.leaderboard.entry import Entry, gather
from pipelines.leaderboard.headline import Headline, headlines, summaries, write_csv
from pipelines.leaderboard.page import Page, Picture, picture, pictures_of, render
from pipelines.leaderboard.sight import STAGES as TRAINED
from pipelines.leaderboard.sight import Sight, sights
from pipelines.leaderboard.sources import Data, Training, costs, data, trainings
from pipelines.lineage.render import to_html
from pipelines.plots import quality, scores
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store


def run(config: ReportConfig, store: Store) -> Report:
    """Make the leaderboard of `config.scores`, or find it.

    Raises WorldlineError when a score is missing or damaged; what else is missing stands on the page as not measured.
    """
    return store.produce(config.spec(), lambda draft: _build(config, store, draft))


def _build(config: ReportConfig, store: Store, draft: Draft) -> None:
    named = [(name, draft.parents[ref]) for name, ref in zip(config.names, config.scores, strict=True)]
    entries = gather(named, store)
    rows, seen = headlines(entries), sights(entries)
    write_csv(rows, draft.path("leaderboard.csv"))
    page = _page(entries, rows, seen, draft)
    draft.path("index.html").write_text(render(page), encoding="utf-8")
    draft.counts |= {
        "scores": len(entries),
        "games": len({entry.game for entry in entries}),
        "experiments": len(set(config.names)),
    }
    draft.metrics["mean_return"] = {
        f"{row.experiment}/{row.game}/{row.planner}": row.mean for row in rows if row.mean is not None
    }
    blind = [f"{row.experiment} on {row.game} ({row.stage}): {row.verdict}" for row in seen if row.good is False]
    draft.check(
        "agents_see", not blind, "; ".join(blind) or f"{sum(bool(row.good) for row in seen)} measured, none blind"
    )


def _page(entries: Sequence[Entry], rows: Sequence[Headline], seen: Sequence[Sight], draft: Draft) -> Page:
    trained = trainings(entries, TRAINED)
    behind = data(entries)
    newest = max(entries, key=lambda entry: entry.score.manifest.created).score.manifest
    return Page(
        rows=rows,
        summaries=summaries(rows),
        score_plot=_score_plot(entries, rows, draft.path("scores.png")),
        videos=_videos(entries),
        sights=seen,
        sheets=_sheets(trained),
        trainings=trained,
        curves=_curves(trained),
        data=behind,
        quality_plot=_quality_plot(behind, draft),
        costs=costs(entries),
        faults=sorted({fault for entry in entries for fault in entry.faults}),
        lineage=[_lineage(entry) for entry in entries],
        libraries=newest.libraries,
        machine=newest.machine,
        commits=sorted({entry.score.manifest.git_commit for entry in entries} - {""}),
        newest=newest.created,
    )


def _lineage(entry: Entry) -> tuple[str, Markup]:
    """`to_html` escapes what it prints."""
    return f"{entry.experiment}: {entry.score.ref}", Markup(to_html(entry.tree))


def _score_plot(entries: Sequence[Entry], rows: Sequence[Headline], path: Path) -> Picture:
    """One panel per game, in the order the games appear; agents of several experiments stand side by side."""
    panels = []
    for game in dict.fromkeys(entry.game for entry in entries):
        mine = [entry for entry in entries if entry.game == game]
        first = next(row for row in rows if row.game == game)
        agents = []
        for entry in mine:
            table = entry.episodes()
            for planner in entry.planners:
                returns = table.loc[table["planner"] == planner, "return"]
                agents.append(scores.Agent(f"{entry.experiment}\n{planner}", tuple(returns.astype(float))))
        panels.append(scores.Panel(game, tuple(agents), first.random_mean, first.behaviour_mean))
    scores.draw(panels, path)
    alt = "; ".join(
        f"{row.game}, {row.experiment}, {row.planner}: mean {row.mean:.4g}" for row in rows if row.mean is not None
    )
    return picture(path, f"Returns per episode. {alt}", "Every evaluated episode as a dot, the mean as a bar.")


def _videos(entries: Sequence[Entry]) -> list[Picture]:
    return [
        picture(path, f"{entry.experiment} plays {entry.game}", f"{entry.experiment} plays {entry.game}")
        for entry in entries
        for _, path in pictures_of(entry.score, "play", ".gif")
    ]


def _sheets(trained: Sequence[Training]) -> list[Picture]:
    return [
        picture(
            path,
            f"Frames of {game} next to what the model of stage {training.stage} reconstructs and predicts",
            f"{game}: {training.address}",
        )
        for training in trained
        for game, path in pictures_of(training.artefact, "sheet_", ".png")
    ]


def _curves(trained: Sequence[Training]) -> dict[str, list[Picture]]:
    return {
        training.address: [
            picture(path, f"Learning curves of {training.stage}: {', '.join(training.losses)}", "Learning curves.")
            for _, path in pictures_of(training.artefact, "curves", ".png")
        ]
        for training in trained
    }


def _quality_plot(behind: Sequence[Data], draft: Draft) -> Picture | None:
    """Raw return by fifth of the collection where it was recorded, else clipped return by checkpoint."""
    raw = {row.game: row.by_fifth for row in behind if row.by_fifth}
    clipped = {row.game: row.by_checkpoint for row in behind if row.by_checkpoint}
    if not raw and not clipped:
        return None
    path = draft.path("quality.png")
    if raw:
        quality.draw(raw, path)
        part = "fifth of the collection"
    else:
        quality.draw(clipped, path, part="checkpoint", unit="clipped")
        part = "checkpoint"
    return picture(
        path, f"Mean return of the behaviour data by {part}: {', '.join(raw or clipped)}", f"Behaviour data by {part}."
    )
