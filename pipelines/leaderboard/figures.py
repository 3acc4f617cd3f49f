"""The pictures and films of the page: plots made here, and what evaluation and training left in their artefacts.

Films show the newest evaluation of every run: best, median and worst episode. They are the page's weight (0.4 to 1 MB
each), so FILM_BYTES of them are put into it, medians of all scores first; the others are a still that leads to the file
in the store. What is left goes to animations of the first seconds, for browsers without VP9.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from pipelines.leaderboard.agent_scores import Run, Sample
from pipelines.leaderboard.atari100k import Atari100k
from pipelines.leaderboard.page import Film, Picture, data_uri, picture, pictures_of
from pipelines.leaderboard.provenance import Data, Training
from pipelines.leaderboard.ranking import AgentSummary, Comparison
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.leaderboard.statistics import Interval
from pipelines.plots import replay, scores
from pipelines.store.artefact import Draft
from pipelines.store.ref import Ref

PANELS = {  # title -> (reference, statistic)
    "IQM HNS": ("human", "iqm"),
    "Median HNS": ("human", "median"),
    "Optimality gap": ("human", "optimality_gap"),
    "IQM DNS": ("dqn", "iqm"),
}
FILM_KINDS = (".mp4", ".webp", ".gif", ".png")
FILM_BYTES = 8 << 20  # of all together; base64 makes 11 MB of them, which a phone still opens
FIRST_FILMS = ("median", "best", "worst")  # who is put into the page first
OPENING = "play.gif"
STILL_AT = 1 / 3  # of a film: openings all look the same


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


def atari100k_plot(found: Atari100k, path: Path) -> Picture:
    """Aggregates of its tables' rows with intervals."""
    panels = {title: statistic for title, (against, statistic) in PANELS.items() if against == "human"}
    lines = [
        scores.AggregateLine(
            row.label,
            place,
            row.kind == "ours",
            {title: _bounded(row.human[name], row.human_intervals.get(name)) for title, name in panels.items()},
        )
        for place, table in enumerate(found.tables)
        for row in table.summed_up
    ]
    scores.draw_aggregates(lines, list(panels), path)
    alt = "; ".join(
        f"{table.title}: {row.label} {row.human['iqm']:.3f}" for table in found.tables for row in table.summed_up
    )
    caption = (
        "Atari 100k, with 95% stratified bootstrap intervals; the dashed line is the human. Orange: measured here; "
        "blue: published raw seeds; hollow: only means are known. Rows with a gap between them are over other games."
    )
    return picture(path, f"IQM of human-normalised scores. {alt}", caption)


def _value(standing: AgentSummary, against: str, statistic: str) -> scores.Value:
    return _bounded(getattr(standing, against)[statistic], getattr(standing, f"{against}_intervals").get(statistic))


def _bounded(value: float, bounds: Interval | None) -> scores.Value:
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


# ---- films ----


@dataclass(frozen=True)
class _File:
    """A film on disk, and what is said of it. `opening` is the animation that may stand in for it."""

    path: Path
    score: Ref
    text: str
    opening: Path | None


def films(samples: Sequence[Sample]) -> list[Film]:
    """Every film, game by game; a still and a link where it is not embedded."""
    mine = [(sample, run) for sample in samples for run in sample.runs if _filmed(run) == sample.planner]
    files = [file for sample, run in mine for file in _files(sample, run)]
    inside = _within(sorted((file.path for file in files), key=_priority), FILM_BYTES)
    openings = [file.opening for file in files if file.opening]
    left = FILM_BYTES - sum(path.stat().st_size for path in inside)
    inside |= _within(openings, left)
    return [_film(file, inside) for file in files]


def _filmed(run: Run) -> str:
    """Of the planners of an evaluation, the one whose films it keeps."""
    return str(run.entry.score.manifest.config.get("planner", "greedy"))


def _files(sample: Sample, run: Run) -> list[_File]:
    score = run.entry.score
    names = [name for name in score.names() if Path(name).suffix in FILM_KINDS]
    moving = [name for name in names if name.endswith(".mp4")]  # say more than the first seconds
    stands_in = next((name for name in moving if name == "median.mp4"), moving[0] if moving else "")
    seed = f", training seed {run.seed}" if len(sample.runs) > 1 else ""
    found = []
    for name in moving or names:
        what = "" if name == OPENING else f", {Path(name).stem.replace('_', ' ')} episode"
        opening = score.path(OPENING) if name == stands_in and OPENING in names else None
        found.append(_File(score.path(name), score.ref, f"{sample.agent} plays {sample.game}{seed}{what}", opening))
    return found


def _priority(path: Path) -> int:
    return FIRST_FILMS.index(path.stem) if path.stem in FIRST_FILMS else 0


def _within(paths: Sequence[Path], most: int) -> set[Path]:
    """Those of `paths` that fit, the earlier ones first."""
    found: set[Path] = set()
    for path in paths:
        size = path.stat().st_size
        if size <= most:
            found.add(path)
            most -= size
    return found


def _film(file: _File, inside: set[Path]) -> Film:
    # From leaderboard/all/KEY/index.html up to the store's root.
    link = f"../../../{file.score}/{file.path.name}"
    if file.path in inside:
        instead = data_uri(file.opening) if file.opening in inside else ""
        return Film(file.text, data_uri(file.path), still(file.path), instead, link)
    return Film(
        f"{file.text} ({file.path.stat().st_size / 1e6:.1f} MB, not in this page)", "", still(file.path), "", link
    )


def still(path: Path) -> str:
    """A frame of an mp4 as a data URI; "" where there is none to read."""
    if path.suffix != ".mp4":
        return ""
    film = cv2.VideoCapture(str(path))
    try:
        film.set(cv2.CAP_PROP_POS_FRAMES, int(film.get(cv2.CAP_PROP_FRAME_COUNT) * STILL_AT))
        there, frame = film.read()
    finally:
        film.release()
    if not there:
        return ""
    made, raw = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    return data_uri(raw.tobytes(), ".png") if made else ""
