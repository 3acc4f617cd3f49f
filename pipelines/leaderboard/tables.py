"""The leaderboard as files for programs and for text: CSV, JSON and Markdown with the numbers of the page."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pipelines.environments.atari.games import GAMES
from pipelines.environments.atari.reference_scores import Score, origin, reference
from pipelines.leaderboard.atari100k import Atari100k, Entrant
from pipelines.leaderboard.benchmark_files import NAMES, Told
from pipelines.leaderboard.page import fixed, num, ranged, ranking, span, whole
from pipelines.leaderboard.provenance import Origin
from pipelines.leaderboard.ranking import AGAINST, CLAIMED, AgentSummary, Comparison, Reproduction
from pipelines.leaderboard.score_row import ScoreRow
from pipelines.leaderboard.statistics import STATISTICS, Interval

AGENT_HEAD = [
    *("Rank", "Agent", "Kind", "Games", "Seeds", "Episodes", "IQM HNS", "Median HNS", "Mean HNS", "Optimality gap"),
    *("IQM DNS", "Above human"),
]

GAME_HEAD = [
    *("Game", "Agent", "Planner", "Protocol", "ROM md5", "Seeds", "Evaluations", "Episodes", "Return [95%]"),
    *("HNS [95%]", "Rank", "Not ranked because", "Beware"),
]

PUBLISHED_HEAD = [
    *("Agent", "Benchmark", "Published in", "Seeds", *CLAIMED.values()),
    *("Reproduced from its raw seeds", "Both figures where they differ"),
]

ATARI100K_HEAD = [
    *("Rank", "Agent", "Kind", "Seeds", "IQM HNS [95%]", "Median HNS", "Mean HNS", "Optimality gap", "Above human"),
    *("Reproduced from its raw seeds", "Steps", "Protocol"),
]

SCORES: tuple[Score, ...] = ("random", "human", "dqn")

COLUMNS = tuple(field.name for field in fields(ScoreRow) if field.name != "runs")


def write_csv(rows: Sequence[ScoreRow], path: Path) -> None:
    """All rows with full precision; an unmeasured number is an empty cell."""
    _csv(path, COLUMNS, ([_joined(getattr(row, name)) for name in COLUMNS] for row in rows))


def write_aggregates(blocks: Sequence[Comparison], path: Path) -> None:
    """Every agent summed up over its games: each statistic of HNS and DNS with its interval."""
    numbers = [(against, name) for against in AGAINST for name in STATISTICS]
    head = ["block", "agent", "planner", "kind", "best_rank", "worst_rank", "unranked", "games", "without_human"]
    head += ["fewest_seeds", "most_seeds", "fewest_episodes", "most_episodes", "evaluations", "aside"]
    head += [f"{against}_{name}{end}" for against, name in numbers for end in ("", "_low", "_high")]
    lines = []
    for block in blocks:
        for found in block.standings:
            line = [block.title, found.agent, found.planner, found.kind, *(found.rank or ("", "")), found.unranked]
            line += [len(found.rows), "; ".join(found.without_human), *(found.seeds or ("", "")), *found.episodes]
            line += [found.evaluations, "; ".join(found.aside)]
            for against, name in numbers:
                bounds = getattr(found, f"{against}_intervals").get(name)
                line += [getattr(found, against).get(name, ""), *((bounds.low, bounds.high) if bounds else ("", ""))]
            lines.append(line)
    _csv(path, head, lines)


def write_improvements(blocks: Sequence[Comparison], path: Path) -> None:
    """Each pair that was compared: the probability that an episode of the first scores above one of the second."""
    lines = (
        [block.title, pair.better, pair.worse, *asdict(pair.probability).values(), pair.games]
        for block in blocks
        for pair in block.improvements
    )
    _csv(path, ["block", "better", "worse", "probability", "low", "high", "games"], lines)


def write_profiles(blocks: Sequence[Comparison], path: Path) -> None:
    """Performance profiles: the share of episodes above each human-normalised score."""
    lines = (
        [block.title, label, *(float(value) for value in values)]
        for block in blocks
        for label, found in block.profiles.items()
        for values in zip(found.thresholds, found.share, found.low, found.high, strict=True)
    )
    _csv(path, ["block", "agent", "threshold", "share", "low", "high"], lines)


def write_published(found: Sequence[Reproduction], path: Path) -> None:
    """Each published claim: every figure as printed and as its raw scores give it, and whether these agree."""
    head = ["agent", "benchmark", "protocol", "source", "unit", "games", "seeds", "reproduced", "differences"]
    head += [f"{against}_{name}{end}" for against, name in CLAIMED for end in ("_published", "", "_low", "_high")]
    lines = []
    for row in found:
        claim = row.claim
        line: list[Any] = [claim.agent, claim.benchmark, claim.protocol, claim.source]
        line += [claim.unit if claim.scores else ""]
        line += [len(claim.scores) or "", row.seeds or "", row.mark, "; ".join(row.differences)]
        for against, name in CLAIMED:
            bounds = getattr(row, f"{against}_intervals").get(name)
            line += [claim.figures.get(against, {}).get(name, ""), getattr(row, against).get(name, "")]
            line += (bounds.low, bounds.high) if bounds else ("", "")
        lines.append([*line, claim.scores_from, claim.note])
    _csv(path, [*head, "scores_from", "note"], lines)


def write_atari100k(found: Atari100k, path: Path) -> None:
    """Each row of Atari 100k's tables: every statistic of HNS with its interval, and the figures as printed."""
    head = ["games", "agent", "kind", "protocol", "source", "reproduced", "best_rank", "worst_rank", "unranked"]
    head += ["fewest_seeds", "most_seeds", "fewest_episodes", "most_episodes", "steps"]
    head += [f"human_{name}{end}" for name in STATISTICS for end in ("_published", "", "_low", "_high")]
    lines = []
    for table in found.tables:
        for row in table.rows:
            line: list[Any] = ["; ".join(table.games), row.label, row.kind, row.protocol, row.source, row.mark]
            line += [*(row.rank or ("", "")), row.unranked, *(row.seeds or ("", "")), *(row.episodes or ("", ""))]
            line += ["" if row.steps is None else row.steps]
            for name in STATISTICS:
                bounds = row.human_intervals.get(name)
                line += [row.printed.get(name, ""), row.human.get(name, "")]
                line += (bounds.low, bounds.high) if bounds else ("", "")
            lines.append(line)
    _csv(path, head, lines)


def write_references(path: Path) -> None:
    """The scores behind HNS and DNS, a line each of the 60 games, with who played and by which protocol."""
    head = ["game", *(f"{score}{end}" for score in SCORES for end in ("", "_source", "_protocol"))]
    lines: list[list[Any]] = []
    for game in GAMES:
        known = reference(game)
        cells = [(getattr(known, score, None), *origin(game, score)) for score in SCORES]
        lines.append([game, *("" if cell is None else cell for three in cells for cell in three)])
    _csv(path, head, lines)


def _csv(path: Path, head: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(lines)


def _joined(value: Any) -> Any:
    return "; ".join(value) if isinstance(value, tuple) else value


def write_json(
    rows: Sequence[ScoreRow],
    blocks: Sequence[Comparison],
    published: Sequence[Reproduction],
    own_play: Atari100k | None,
    apart: Sequence[Told],
    origins: Sequence[Origin],
    path: Path,
) -> None:
    """Everything, every episode's return by training run included: {"rows": [...], "blocks": [...], "published": [...],
    "atari100k": {"tables": [...], "left_out": [...]}, "crafter" and "metaworld": the same, "origins": {score: artefacts
    of origins.csv}}; null = not measured, in place of atari100k where no agent learned from its own play, and in place
    of the others where none was scored in them.
    """
    content = {
        "rows": [asdict(row) for row in rows],
        "blocks": [_block(block) for block in blocks],
        "published": [
            asdict(found) | {"reproduced": found.mark, "differences": found.differences} for found in published
        ],
        "atari100k": asdict(own_play) if own_play else None,
        **(dict.fromkeys(NAMES) | {each.name: asdict(each.found) for each in apart}),
        "origins": {origin.score: origin.artefacts for origin in origins},
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_markdown(
    rows: Sequence[ScoreRow],
    blocks: Sequence[Comparison],
    published: Sequence[Reproduction],
    own_play: Atari100k | None,
    apart: Sequence[Told],
    path: Path,
) -> None:
    """The aggregates of every block, Atari 100k's tables and those `apart`, what others published, our rows."""
    lines = ["# Worldline leaderboard", ""]
    for block in blocks:
        lines += [f"## {_cell(block.title)}", ""]
        lines += [f"Not comparable with the table above: {_cell(block.apart)}.", ""] if block.apart else []
        lines += _table(AGENT_HEAD, [_summary(standing) for standing in block.standings])
        lines += [f"- {_cell(text)}" for text in _remarks(block)]
        lines.append("")
    for table in own_play.tables if own_play else ():
        lines += [f"## Atari 100k, {table.title}", "", *_table(ATARI100K_HEAD, [_entrant(row) for row in table.rows])]
    if own_play and own_play.left_out:
        lines += ["Not in it:", "", *(f"- {_cell(text)}" for text in own_play.left_out), ""]
    for each in apart:
        for own in each.sections:
            lines += [f"## {own.title}", "", *_table(own.head, own.body)]
        lines += ["Not in it:", "", *(f"- {_cell(text)}" for text in each.left_out), ""] if each.left_out else []
    lines += ["## Published", "", *_table(PUBLISHED_HEAD, [published_cells(found) for found in published])]
    ours = [row for row in rows if row.kind == "ours"]
    lines += ["## Game by game", "", *_table(GAME_HEAD, [_game(row) for row in ours])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _remarks(block: Comparison) -> list[str]:
    """What the page says below a block's table."""
    found = [
        f"An episode of {pair.better} scores above one of {pair.worse} with probability "
        f"{ranged(pair.probability.value, pair.probability.low, pair.probability.high, fixed)} ({pair.games} games)."
        for pair in block.improvements
    ]
    found += block.standings[0].left_out
    if block.seeds_differ:
        found.append(
            "Not all agents stand on as many training seeds: one seed's interval leaves out the luck of training."
        )
    return found + [f"{each.label}, {text}" for each in block.standings for text in each.aside]


def _block(block: Comparison) -> dict[str, Any]:
    def intervals(standing: AgentSummary, name: str) -> dict[str, Any]:
        bounds: Mapping[str, Interval] = getattr(standing, f"{name}_intervals")
        return {
            statistic: {"value": value, "low": None, "high": None} | (asdict(bounds[statistic]) if bounds else {})
            for statistic, value in getattr(standing, name).items()
        }

    return {
        "title": block.title,
        "not_comparable_with_the_one_above": block.apart,
        "standings": [
            {
                "agent": standing.agent,
                "planner": standing.planner,
                "kind": standing.kind,
                "source": standing.source,
                "games": [row.game for row in standing.rows],
                "games_without_human_score": list(standing.without_human),
                "seeds": list(standing.seeds) if standing.seeds else None,
                "episodes_a_game": list(standing.episodes),
                "evaluations": standing.evaluations,
                "aside": list(standing.aside),
                "rank": list(standing.rank) if standing.rank else None,
                "unranked": standing.unranked,
                "median_share": standing.median_share,
                "human_normalised": intervals(standing, "human"),
                "dqn_normalised": intervals(standing, "dqn"),
            }
            for standing in block.standings
        ],
        "improvements": [asdict(pair) for pair in block.improvements],
        "profiles": {
            label: {name: values.tolist() for name, values in vars(found).items()}
            for label, found in block.profiles.items()
        },
    }


def _shown(values: Mapping[str, float], intervals: Mapping[str, Interval], statistic: str) -> str:
    bounds = intervals.get(statistic)
    return ranged(values.get(statistic), bounds.low if bounds else None, bounds.high if bounds else None, fixed)


def _entrant(row: Entrant) -> tuple[str, ...]:
    def figure(name: str) -> str:
        printed = row.printed.get(name)
        return (
            f"{printed} (published)"
            if printed and name not in row.human
            else _shown(row.human, row.human_intervals, name)
        )

    return (
        ranking(row.rank) or f"no: {row.unranked or 'nothing to compare with'}",
        row.label,
        row.kind,
        span(row.seeds),
        *(figure(name) for name in ("iqm", "median", "mean", "optimality_gap")),
        num(row.human.get("above")),
        "; ".join((row.mark, *row.differences)),
        whole(row.steps),
        row.protocol,
    )


def _summary(standing: AgentSummary) -> tuple[str, ...]:
    return (
        ranking(standing.rank) or f"no: {standing.unranked or 'nothing to compare with'}",
        standing.label,
        standing.kind,
        str(len(standing.rows)),
        span(standing.seeds),
        span(standing.episodes),
        *(
            _shown(standing.human, standing.human_intervals, name)
            for name in ("iqm", "median", "mean", "optimality_gap")
        ),
        _shown(standing.dqn, standing.dqn_intervals, "iqm"),
        num(standing.human.get("above")),
    )


def _game(row: ScoreRow) -> tuple[str, ...]:
    return (
        row.game,
        row.agent,
        row.planner,
        row.protocol,
        row.rom_md5 or "unknown",
        "unknown" if row.seeds is None else str(row.seeds),
        str(row.evaluations),
        str(row.episodes),
        ranged(row.mean, row.low, row.high, num),
        ranged(row.hns, row.hns_low, row.hns_high, fixed),
        ranking(row.rank) or "no",
        "; ".join(filter(None, (row.unranked, row.limits))),
        "; ".join(filter(None, (row.apart and f"not pooled: {row.apart}", row.drift and f"contradicted: {row.drift}"))),
    )


def published_cells(row: Reproduction) -> tuple[str, ...]:
    """One published claim as the cells of PUBLISHED_HEAD. A figure is the one recomputed, else the one printed."""
    figures = []
    for against, name in CLAIMED:
        printed, ours = row.claim.figures.get(against, {}).get(name), getattr(row, against).get(name)
        figures.append(f"{printed} (published)" if ours is None and printed else fixed(ours))
    seeds = "" if row.seeds is None else str(row.seeds)
    told = "; ".join(row.differences)
    return (row.claim.agent, row.claim.benchmark, row.claim.source, seeds, *figures, row.mark, told)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *body]
    return [*("| " + " | ".join(_cell(text) for text in row) + " |" for row in rows), ""]


def _cell(text: str) -> str:
    """Names come from manifests that strangers may have written: no cell may end its own, or hold mark-up."""
    safe = "".join(f"\\{letter}" if letter in "\\|`*_[]<>" else letter for letter in text)
    return " ".join(safe.split())
