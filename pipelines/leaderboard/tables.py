"""The leaderboard as files for programs and for text: CSV, JSON and Markdown with the numbers of the page."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pipelines.leaderboard.headline import Headline
from pipelines.leaderboard.origins import Origin
from pipelines.leaderboard.standing import Block, Standing
from pipelines.leaderboard.statistics import Interval
from pipelines.leaderboard.wording import fixed, num, ranged, ranking

AGENT_HEAD = ["Rank", "Agent", "Kind", "Games", "Seeds", "Episodes", "IQM HNS", "Median HNS", "IQM DNS", "Above human"]
GAME_HEAD = [
    *("Game", "Agent", "Planner", "Protocol", "ROM md5", "Seeds", "Episodes", "Return [95%]", "HNS [95%]", "Rank"),
    "Not ranked because",
]
COLUMNS = tuple(field.name for field in fields(Headline) if field.name != "returns")


def write_csv(rows: Sequence[Headline], path: Path) -> None:
    """All rows with full precision; an unmeasured number is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(row, name) for name in COLUMNS] for row in rows)


def write_json(rows: Sequence[Headline], blocks: Sequence[Block], origins: Sequence[Origin], path: Path) -> None:
    """Everything, every episode's return included: {"rows": [...], "blocks": [...], "origins": {score: artefacts of
    origins.csv}}; null = not measured.
    """
    content = {
        "rows": [asdict(row) for row in rows],
        "blocks": [_block(block) for block in blocks],
        "origins": {origin.score: origin.artefacts for origin in origins},
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_markdown(rows: Sequence[Headline], blocks: Sequence[Block], path: Path) -> None:
    """The aggregates of every block, and our rows game by game."""
    lines = ["# Worldline leaderboard", ""]
    for block in blocks:
        lines += [f"## {_cell(block.title)}", ""]
        lines += [f"Not comparable with the table above: {_cell(block.apart)}.", ""] if block.apart else []
        lines += _table(AGENT_HEAD, [_summary(standing) for standing in block.standings])
    ours = [row for row in rows if row.kind == "ours"]
    lines += ["## Game by game", "", *_table(GAME_HEAD, [_game(row) for row in ours])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _block(block: Block) -> dict[str, Any]:
    def intervals(standing: Standing, name: str) -> dict[str, Any]:
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
                "seeds": standing.seeds,
                "episodes_a_game": list(standing.episodes),
                "rank": list(standing.rank) if standing.rank else None,
                "unranked": standing.unranked,
                "median_share": standing.median_share,
                "human_normalised": intervals(standing, "human"),
                "dqn_normalised": intervals(standing, "dqn"),
            }
            for standing in block.standings
        ],
        "improvements": [asdict(pair) for pair in block.improvements],
    }


def _summary(standing: Standing) -> tuple[str, ...]:
    low, high = standing.episodes

    def shown(name: str, statistic: str) -> str:
        value, bounds = getattr(standing, name).get(statistic), getattr(standing, f"{name}_intervals").get(statistic)
        return ranged(value, bounds.low if bounds else None, bounds.high if bounds else None, fixed)

    return (
        ranking(standing.rank) or f"no: {standing.unranked or 'nothing to compare with'}",
        standing.label,
        standing.kind,
        str(len(standing.rows)),
        "unknown" if standing.seeds is None else str(standing.seeds),
        str(low) if low == high else f"{low} to {high}",
        shown("human", "iqm"),
        shown("human", "median"),
        shown("dqn", "iqm"),
        num(standing.human.get("above")),
    )


def _game(row: Headline) -> tuple[str, ...]:
    return (
        row.game,
        row.experiment,
        row.planner,
        row.protocol,
        row.rom_md5 or "unknown",
        "unknown" if row.seeds is None else str(row.seeds),
        str(row.episodes),
        ranged(row.mean, row.low, row.high, num),
        ranged(row.hns, row.hns_low, row.hns_high, fixed),
        ranking(row.rank) or "no",
        "; ".join(filter(None, (row.unranked, row.limits))),
    )


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *body]
    return [*("| " + " | ".join(_cell(text) for text in row) + " |" for row in rows), ""]


def _cell(text: str) -> str:
    """Names come from manifests that strangers may have written: no cell may end its own, or hold mark-up."""
    safe = "".join(f"\\{letter}" if letter in "\\|`*_[]<>" else letter for letter in text)
    return " ".join(safe.split())
