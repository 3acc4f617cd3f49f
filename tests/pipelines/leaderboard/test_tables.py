"""The leaderboard as CSV, JSON and Markdown."""

import csv
import json

import pytest

from pipelines.leaderboard.provenance import Origin
from pipelines.leaderboard.ranking import blocks
from pipelines.leaderboard.score_row import ScoreRow, published_rows
from pipelines.leaderboard.tables import AGENT_HEAD, COLUMNS, GAME_HEAD, write_csv, write_json, write_markdown

ROWS = [
    ScoreRow("a|b\n# c", "Freeway", "greedy", mean=20.5, low=20.0, high=21.0, episodes=2, runs={"run": (20.0, 21.0)}),
    *published_rows(),
]


def test_csv_keeps_all_digits_and_leaves_unknown_cells_empty(tmp_path):
    write_csv(ROWS, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 196 and tuple(rows[0]) == COLUMNS and "runs" not in COLUMNS
    assert rows[0]["agent"] == "a|b\n# c" and rows[0]["std"] == "" and float(rows[0]["low"]) == 20.0


def test_json_holds_every_episode_and_every_interval(tmp_path):
    write_json(
        ROWS, blocks(ROWS), [Origin("a", "scores/Freeway/0", (("replay/Freeway/1/0", {}),))], tmp_path / "a.json"
    )
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["rows"][0]["runs"] == {"run": [20.0, 21.0]}
    assert content["origins"] == {"scores/Freeway/0": ["replay/Freeway/1/0"]}
    published = content["blocks"][1]
    assert "other games" in published["not_comparable_with_the_one_above"] and len(published["improvements"]) == 3
    first, fourth = published["standings"][0], published["standings"][3]
    assert first["rank"] == [1, 2] and first["human_normalised"]["iqm"]["value"] == pytest.approx(0.847, abs=5e-4)
    assert first["human_normalised"]["iqm"]["low"] < 0.847
    assert fourth["human_normalised"]["iqm"]["low"] is None and fourth["unranked"] == "mean only, no interval"


def test_markdown_cells_hold_no_mark_up_of_strangers(tmp_path):
    write_markdown(ROWS, blocks(ROWS), tmp_path / "a.md")
    text = (tmp_path / "a.md").read_text()
    assert "| 1 to 2 | JOWA 150M, beam | published | 15 | unknown | 16 | 0.847 \\[0.7" in text
    (ours,) = (line for line in text.splitlines() if line.startswith("| Freeway"))
    assert "a\\|b # c" in ours and "20.5 \\[20, 21\\]" in ours
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {len(AGENT_HEAD) + 1, len(GAME_HEAD) + 1}
