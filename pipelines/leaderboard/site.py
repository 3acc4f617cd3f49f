"""The leaderboard's files from scores: tables, plots, films, lineage, and the page that shows them all.

`build` is what stage `leaderboard` does; run it by `worldline report`.
"""

from collections.abc import Sequence

from markupsafe import Markup

from pipelines.environments.registry import achievements
from pipelines.leaderboard import crafter_files, figures, metaworld_files, tables
from pipelines.leaderboard import provenance as roots
from pipelines.leaderboard.agent_scores import LEARNED, TRAINED, Entry, Run, Sample, gather, samples
from pipelines.leaderboard.atari100k import Atari100k, atari100k
from pipelines.leaderboard.crafter import Crafter, crafter
from pipelines.leaderboard.figures import films
from pipelines.leaderboard.metaworld import Metaworld, metaworld
from pipelines.leaderboard.page import Page, Trail, render
from pipelines.leaderboard.provenance import Sight, costs, data, sights, trainings
from pipelines.leaderboard.ranking import Comparison, Reproduction, blocks, reproductions
from pipelines.leaderboard.score_row import ScoreRow, published_rows, rank, score_rows
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.lineage import to_html
from pipelines.store.ref import Ref
from pipelines.store.store import Store


def build(named: Sequence[tuple[str, Artefact]], store: Store, draft: Draft) -> None:
    """Fill the draft from scores, each with the name of its experiment.

    Raises WorldlineError when a score is missing or damaged; what else is missing stands on the page as not measured.
    """
    entries = gather(named, store)
    pooled = samples(entries)
    seen = sights(entries)
    ours = score_rows(pooled)
    rows = rank([*ours, *published_rows()])
    compared = blocks([row for row in rows if not achievements(row.game)])  # those have a benchmark of their own
    reached, succeeded = crafter(pooled, ours), metaworld(pooled, ours)
    published = reproductions()
    own_play = atari100k(pooled, ours) if any(entry.of(LEARNED) for entry in entries) else None
    behind = roots.origins(entries)
    tables.write_csv(rows, draft.path("leaderboard.csv"))
    tables.write_aggregates(compared, draft.path("aggregates.csv"))
    tables.write_improvements(compared, draft.path("improvements.csv"))
    tables.write_profiles(compared, draft.path("profiles.csv"))
    tables.write_published(published, draft.path("published.csv"))
    tables.write_references(draft.path("references.csv"))
    if own_play:
        tables.write_atari100k(own_play, draft.path("atari100k.csv"))
    apart = []
    if reached:
        crafter_files.write_csv(reached, draft.path("crafter.csv"))
        apart.append(crafter_files.told(reached))
    if succeeded:
        metaworld_files.write_csv(succeeded, draft.path("metaworld.csv"))
        apart.append(metaworld_files.told(succeeded))
    tables.write_json(rows, compared, published, own_play, apart, behind, draft.path("leaderboard.json"))
    tables.write_markdown(rows, compared, published, own_play, apart, draft.path("leaderboard.md"))
    roots.write_csv(behind, draft.path("origins.csv"))
    page = _page(entries, pooled, rows, compared, published, own_play, reached, succeeded, seen, draft)
    draft.path("index.html").write_text(render(page), encoding="utf-8")
    draft.counts |= {
        "scores": len(entries),
        "games": len({entry.game for entry in entries}),
        "experiments": len({name for name, _ in named}),
    }
    draft.metrics["mean_return"] = {
        f"{row.agent}/{row.game}/{row.planner}": row.mean for row in page.ours if row.mean is not None
    }
    blind = [f"{row.experiment} on {row.game} ({row.stage}): {row.verdict}" for row in seen if row.good is False]
    draft.check(
        "agents_see", not blind, "; ".join(blind) or f"{sum(bool(row.good) for row in seen)} measured, none blind"
    )


def _page(
    entries: Sequence[Entry],
    pooled: Sequence[Sample],
    rows: Sequence[ScoreRow],
    compared: Sequence[Comparison],
    published: Sequence[Reproduction],
    own_play: Atari100k | None,
    reached: Crafter | None,
    succeeded: Metaworld | None,
    seen: Sequence[Sight],
    draft: Draft,
) -> Page:
    trained = trainings(entries, TRAINED)
    replays = data(entries)
    newest = max(entries, key=lambda entry: entry.score.manifest.created).score.manifest
    return Page(
        rows=rows,
        blocks=compared,
        claims=published,
        atari100k=own_play,
        atari100k_plot=figures.atari100k_plot(own_play, draft.path("atari100k.png")) if own_play else None,
        crafter=reached,
        crafter_plots=crafter_files.plots(reached, draft.path("crafter.csv").parent) if reached else (),
        metaworld=succeeded,
        metaworld_plots=metaworld_files.plots(succeeded, draft.path("metaworld.csv").parent) if succeeded else (),
        aggregate_plot=figures.aggregate_plot(compared, draft.path("aggregates.png")),
        profile_plot=figures.profile_plot(compared, draft.path("profiles.png")),
        score_plot=figures.score_plot(rows, draft.path("scores.png")),
        films=films(pooled),
        sights=seen,
        sheets=figures.sheets(trained),
        trainings=trained,
        curves=figures.curves(trained),
        data=replays,
        quality_plot=figures.quality_plot(replays, draft),
        costs=costs(entries),
        faults=sorted({fault for entry in entries for fault in entry.faults}),
        trails=_trails(list({run.entry.score.ref: run for sample in pooled for run in sample.runs}.values())),
        libraries=newest.libraries,
        machine=newest.machine,
        commits=sorted({entry.score.manifest.git_commit for entry in entries} - {""}),
        newest=newest.created,
    )


def _trails(runs: Sequence[Run]) -> list[Trail]:
    """The lineage of every run's newest score; what several share is written out once, and named after that."""
    written: set[Ref] = set()
    found = []
    for run, origin in zip(runs, roots.origins([run.entry for run in runs]), strict=True):
        others = tuple(str(member.ref) for member in run.pool.members[:-1])
        tree = Markup(to_html(run.entry.tree, written))  # `to_html` escapes what it prints
        found.append(Trail(origin, tree, others))
    return found
