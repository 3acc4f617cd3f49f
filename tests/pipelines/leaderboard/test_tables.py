"""The leaderboard as CSV, JSON and Markdown."""

import csv
import json

import pytest

from pipelines.leaderboard.provenance import Origin
from pipelines.leaderboard.ranking import blocks, reproductions
from pipelines.leaderboard.score_row import ScoreRow, published_rows
from pipelines.leaderboard.tables import (
    AGENT_HEAD,
    COLUMNS,
    GAME_HEAD,
    PUBLISHED_HEAD,
    write_csv,
    write_json,
    write_markdown,
    write_published,
    write_references,
)

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
    origins = [Origin("a", "scores/Freeway/0", (("replay/Freeway/1/0", {}),))]
    write_json(ROWS, blocks(ROWS), reproductions("Atari 100k"), None, (), origins, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["rows"][0]["runs"] == {"run": [20.0, 21.0]}
    assert content["origins"] == {"scores/Freeway/0": ["replay/Freeway/1/0"]}
    published = content["blocks"][1]
    assert "other games" in published["not_comparable_with_the_one_above"] and len(published["improvements"]) == 3
    first, fourth = published["standings"][0], published["standings"][3]
    assert first["rank"] == [1, 2] and first["human_normalised"]["iqm"]["value"] == pytest.approx(0.847, abs=5e-4)
    assert first["human_normalised"]["iqm"]["low"] < 0.847
    assert fourth["human_normalised"]["iqm"]["low"] is None and fourth["unranked"] == "mean only, no interval"


def test_published_claims_keep_both_figures_and_stand_in_no_rank(tmp_path):
    write_published(reproductions(), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = {(row["agent"], row["source"]): row for row in csv.DictReader(file)}
    storm = rows["STORM", "arXiv 2310.09615"]
    assert (storm["reproduced"], storm["human_mean_published"], storm["games"], storm["seeds"]) == (
        "no",
        "1.267",
        "26",
        "5",
    )
    assert float(storm["human_mean"]) == pytest.approx(1.222, abs=5e-4)
    assert float(storm["human_mean_low"]) < float(storm["human_mean"]) < float(storm["human_mean_high"])
    bbf = rows["BBF", "arXiv 2305.19452"]
    assert (bbf["reproduced"], bbf["human_median_published"], bbf["human_median"]) == ("no raw seeds", "0.917", "")
    write_json(ROWS, blocks(ROWS), reproductions(), None, (), [], tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    ranked = {standing["agent"] for block in content["blocks"] for standing in block["standings"]}
    assert not ranked & {"STORM", "IRIS", "BBF"} and not any("rank" in found for found in content["published"])
    assert [found["reproduced"] for found in content["published"]] == [row["reproduced"] for row in rows.values()]


def test_references_name_who_played(tmp_path):
    write_references(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = {row["game"]: row for row in csv.DictReader(file)}
    assert len(rows) == 60 and rows["Alien"]["human"] == "7127.7" and "2016" in rows["Alien"]["human_source"]
    assert set(rows["AirRaid"].values()) == {"AirRaid", ""}
    assert (rows["Venture"]["dqn"], rows["Venture"]["dqn_source"], rows["Pong"]["dqn"]) == ("", "", "16.6")


def test_markdown_cells_hold_no_mark_up_of_strangers(tmp_path):
    write_markdown(ROWS, blocks(ROWS), reproductions(), None, (), tmp_path / "a.md")
    text = (tmp_path / "a.md").read_text()
    assert "| 1 to 2 | JOWA 150M, beam | published | 15 | unknown | 16 | 0.847 \\[0.7" in text
    (ours,) = (line for line in text.splitlines() if line.startswith("| Freeway"))
    assert "a\\|b # c" in ours and "20.5 \\[20, 21\\]" in ours
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {len(AGENT_HEAD) + 1, len(GAME_HEAD) + 1, len(PUBLISHED_HEAD) + 1}
    assert text.index("## Published") < text.index("| STORM | Atari 100k |") < text.index("## Game by game")
