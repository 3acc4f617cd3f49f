"""What stands behind scores: files of what is known, and the verdict on sight: only strictly lower counts."""

import csv

import pytest

from pipelines.leaderboard.agent_scores import gather
from pipelines.leaderboard.provenance import judge, origins, write_csv
from tests.pipelines.leaderboard import board

OBJECT = {"url": "gs://bucket/dqn/Pong/1/a.gz", "bytes": 7, "crc32c": "AAAAAA==", "version": "3"}


def test_every_object_and_rom_behind_a_score(store, tmp_path):
    replay = board.make(store, "replay", "Pong/1", roots=[OBJECT, OBJECT | {"url": "gs://bucket/dqn/Pong/1/b.gz"}])
    rom = {"game": "Pong", "rom_md5": "60e0"}
    metrics = {"greedy": board.summary([1.0])}
    score = board.make(store, "scores", "Pong", (replay.ref,), metrics=metrics, roots=[rom])
    (found,) = origins(gather([("demo", score)], store))
    assert [item["url"][-4:] for item in found.objects] == ["a.gz", "b.gz"] and found.roms == [("Pong", "60e0")]
    write_csv([found, found], tmp_path / "o.csv")
    with (tmp_path / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["artefact"] for row in rows] == [str(replay.ref)] * 2 + [str(score.ref)]
    assert rows[0]["crc32c"] == "AAAAAA==" and rows[0]["rom_md5"] == "" and rows[2]["rom_md5"] == "60e0"


@pytest.mark.parametrize(
    ("pairs", "verdict", "good"),
    [
        ([], "not measured", None),
        ([("the mean frame", None, 0.1), ("copying", 0.1, None)], "not measured", None),
        ([("the mean frame", 0.1, 0.2), ("copying", None, None)], "sees: beats the mean frame", True),
        ([("the mean frame", 0.1, 0.2), ("copying", 0.0, 0.1)], "sees: beats the mean frame and copying", True),
        ([("the mean frame", 0.1, 0.2), ("copying", 0.1, 0.1)], "blind: no better than copying", False),
        (
            [("the mean frame", 0.3, 0.2), ("copying", 0.2, 0.1)],
            "blind: no better than the mean frame or copying",
            False,
        ),
    ],
)
def test_judge(pairs, verdict, good):
    assert judge(pairs) == (verdict, good)
